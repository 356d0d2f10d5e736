package record

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/cockroachdb/apd/v3"
)

// ruleNode is the rule of one path and the rules of the paths inside it.
type ruleNode struct {
	ignore    bool
	tolerance *apd.Decimal
	precision time.Duration
	as        Kind // see Rule.As: of a text
	show      bool
	members   map[string]*ruleNode
}

// allow combines the rule of this path with the leeway around it.
func (n *ruleNode) allow(around leeway) leeway {
	if n == nil {
		return around
	}
	if n.tolerance != nil {
		around.tolerance = n.tolerance
	}
	if n.precision > 0 {
		around.precision = n.precision
	}
	if n.as != "" {
		around.as = n.as
	}
	around.show = around.show || n.show
	return around
}

// loosens reports whether values may differ here or further inside.
func (n *ruleNode) loosens() bool {
	if n.ignore || n.tolerance != nil || n.precision > 0 || n.as != "" {
		return true
	}
	for _, below := range n.members {
		if below.loosens() {
			return true
		}
	}
	return false
}

// member returns the rules that apply to a member.
func (n *ruleNode) member(token string, around leeway) (below *ruleNode, inside leeway, ignored bool) {
	if n == nil {
		return nil, around, false
	}
	below = n.members[token]
	return below, below.allow(around), below != nil && below.ignore
}

// Validate checks what can be checked in a rule without a schema.
func (r Rule) Validate() error {
	tokens, err := ParsePointer(r.Path)
	switch {
	case err != nil:
		return err
	case len(tokens) == 0:
		return fmt.Errorf("path is missing: write /field, or /field/member inside a JSON field")
	case r.Ignore == "" && r.Tolerance == "" && r.Precision == 0 && r.As == "" && r.Zone == "" && !r.Show:
		return fmt.Errorf("path %q: the rule has no effect; give ignore (with the reason), tolerance, precision, as or show", r.Path)
	case r.Ignore != "" && strings.TrimSpace(r.Ignore) == "":
		return fmt.Errorf("path %q: ignore must give the reason", r.Path)
	case r.Ignore != "" && (r.Tolerance != "" || r.Precision != 0 || r.As != "" || r.Show):
		return fmt.Errorf("path %q: an ignored path can't have another rule", r.Path)
	case r.Precision != 0 && time.Duration(r.Precision) < time.Microsecond:
		return fmt.Errorf("path %q: precision must be a microsecond or more, such as 1ms", r.Path)
	}
	if err := r.validateAs(len(tokens)); err != nil {
		return err
	}
	if _, ok := parseTolerance(r.Tolerance); r.Tolerance != "" && !ok {
		return fmt.Errorf("path %q: tolerance %q: want a decimal of 0 or more, such as 0.01", r.Path, r.Tolerance)
	}
	return nil
}

// add puts the rule into the tree of its field; tokens are those after the field's.
func (n *ruleNode) add(r Rule, f *Field, tokens []string) error {
	at := n
	for depth, token := range tokens {
		if f.Kind != JSON && f.Kind != Array {
			return fmt.Errorf("path %q: field %q is %s; only json and array fields have members", r.Path, f.Name, f.Kind)
		}
		if f.Kind == Array && depth == 0 && !isIndex(token) {
			return fmt.Errorf("path %q: field %q is an array: want the number of an element, from 0", r.Path, f.Name)
		}
		if at.members == nil {
			at.members = map[string]*ruleNode{}
		}
		if at.members[token] == nil {
			at.members[token] = &ruleNode{}
		}
		at = at.members[token]
	}
	kind := f.Kind
	if kind == Array && f.Element != "" {
		kind = f.Element
	}
	as := Kind("")
	if r.As != "" {
		if !fitsAs(kind, r) {
			return fmt.Errorf("path %q: as: %s can't be the meaning of field %q, which is %s", r.Path, r.As, f.Name, kind)
		}
		if isText(kind) {
			as = meanings[r.As]
			kind = as
		}
	}
	loose := kind == JSON || kind == Array
	switch {
	case at.ignore || at.tolerance != nil || at.precision > 0 || at.as != "" || at.show:
		return fmt.Errorf("path %q: there are two rules for it", r.Path)
	case r.Tolerance != "" && !loose && !numeric(kind):
		return fmt.Errorf("path %q: tolerance is for numbers, field %q is %s", r.Path, f.Name, kind)
	case r.Precision != 0 && !loose && kind != Timestamp && kind != TimestampTZ:
		return fmt.Errorf("path %q: precision is for timestamps, field %q is %s", r.Path, f.Name, kind)
	}
	at.ignore, at.precision, at.as, at.show = r.Ignore != "", time.Duration(r.Precision), as, r.Show
	if r.Tolerance != "" {
		at.tolerance, _ = parseTolerance(r.Tolerance)
	}
	return nil
}

func isIndex(token string) bool {
	n, err := strconv.Atoi(token)
	return err == nil && n >= 0 && strconv.Itoa(n) == token
}
