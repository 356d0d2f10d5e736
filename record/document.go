package record

import (
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
	"golang.org/x/text/unicode/norm"
)

// node is one value of a JSON document. Numbers keep their text, so none is rounded.
type node struct {
	kind    jsontext.Kind // 'n', 't' and 'f' as 't', '"', '0', '{', '['
	text    string        // of a string (unquoted), a number, a Boolean; of an array the bounds of its own
	items   []node
	members map[string]node // of duplicate names the last one, as in jsonb
}

// parseDocument parses one JSON document. It refuses what can't be compared by meaning:
// invalid syntax, invalid UTF-8, lone surrogates, text after the end.
func parseDocument(text string) (node, bool) {
	in := jsontext.NewDecoder(strings.NewReader(text), jsontext.AllowDuplicateNames(true))
	n, err := readNode(in)
	if err != nil {
		return node{}, false
	}
	_, err = in.ReadToken()
	return n, errors.Is(err, io.EOF)
}

func readNode(in *jsontext.Decoder) (node, error) {
	token, err := in.ReadToken()
	if err != nil {
		return node{}, err
	}
	n := node{kind: token.Kind()}
	switch n.kind {
	case '[':
		for in.PeekKind() != ']' {
			item, err := readNode(in)
			if err != nil {
				return node{}, err
			}
			n.items = append(n.items, item)
		}
		_, err = in.ReadToken()
	case '{':
		n.members = map[string]node{}
		for in.PeekKind() != '}' {
			name, err := in.ReadToken()
			if err != nil {
				return node{}, err
			}
			called := name.String() // the token is only valid until the next read
			if n.members[called], err = readNode(in); err != nil {
				return node{}, err
			}
		}
		_, err = in.ReadToken()
	case 't', 'f':
		n.kind, n.text = 't', token.String()
	case '"', '0':
		n.text = token.String()
	}
	return n, err
}

// documents compares two JSON documents member by member.
type documents struct {
	field   string // its pointer
	element Kind   // of an Array's elements; "" in a JSON field, and of an array of JSON
	parse   func(string) (node, bool)
	rules   *ruleNode
	leeway  leeway
	limit   int
}

// walk is the state of one comparison.
type walk struct {
	documents
	path  []string
	found []Difference
	room  int
}

// compare appends the differences to found, at most limit of them. Texts that are not JSON are
// compared as bytes.
func (d documents) compare(a, b string, found []Difference) []Difference {
	if d.parse == nil {
		d.parse = parseDocument
	}
	x, ok := d.parse(a)
	y, ok2 := d.parse(b)
	if !ok || !ok2 {
		if a != b {
			found = append(found, Difference{Path: d.field, Class: DifferentValue})
		}
		return found
	}
	w := walk{documents: d, found: found, room: d.limit}
	w.nodes(x, y, d.rules, d.leeway)
	return w.found
}

func (w *walk) report(class DifferenceClass) {
	if class == "" || w.room == 0 {
		return
	}
	pointer := w.field
	for _, token := range w.path {
		pointer = AppendPointer(pointer, token)
	}
	w.found = append(w.found, Difference{Path: pointer, Class: class})
	w.room--
}

func (w *walk) nodes(a, b node, rules *ruleNode, l leeway) {
	if w.room == 0 {
		return
	}
	switch {
	case a.kind == '{' && b.kind == '{':
		w.objects(a, b, rules, l)
	case a.kind == '[' && b.kind == '[':
		w.arrays(a, b, rules, l)
	case a.kind == sqlNull || b.kind == sqlNull:
		if a.kind != b.kind {
			w.report(DifferentNull)
		}
	case a.kind == 'n' || b.kind == 'n':
		if a.kind != b.kind {
			w.report(DifferentNull)
		}
	case w.element != "" && a.leaf() && b.leaf() && (a.kind == b.kind || numeric(w.element) || w.element == Bool):
		// a number that JSON can't represent (NaN) is a string here
		w.report(l.differ(w.element, a.text, b.text))
	case a.kind != b.kind:
		w.report(DifferentType)
	case a.kind == '0':
		w.report(l.number(a.text, b.text, a.text == b.text || equalDecimals(a.text, b.text)))
	case a.kind == '"':
		w.report(l.str(a.text, b.text))
	case a.text != b.text:
		w.report(DifferentValue)
	}
}

func (n node) leaf() bool { return n.kind != '{' && n.kind != '[' }

func numeric(k Kind) bool { return k == Int || k == Decimal || k == Float || k == Float32 }

// str compares two strings; with a precision, two timestamps are compared as instants.
func (l leeway) str(a, b string) DifferenceClass {
	if a == b || l.precision > 0 && l.moment(a, b, false) == "" {
		return ""
	}
	return textClass(a, b)
}

func (w *walk) arrays(a, b node, rules *ruleNode, l leeway) {
	if a.text != b.text { // bounds of their own
		w.report(DifferentValue)
	}
	for i := range max(len(a.items), len(b.items)) {
		token := strconv.Itoa(i)
		below, inside, ignored := rules.member(token, l)
		if ignored {
			continue
		}
		w.path = append(w.path, token)
		if i < len(a.items) && i < len(b.items) {
			w.nodes(a.items[i], b.items[i], below, inside)
		} else {
			w.report(DifferentMissing)
		}
		w.path = w.path[:len(w.path)-1]
	}
}

func (w *walk) objects(a, b node, rules *ruleNode, l leeway) {
	names := make([]string, 0, len(a.members))
	for name := range a.members {
		names = append(names, name)
	}
	for name := range b.members {
		if _, both := a.members[name]; !both {
			names = append(names, name)
		}
	}
	slices.Sort(names) // the limit must cut off the same names each time
	respelt := respellings(a, b)
	for _, name := range names {
		below, inside, ignored := rules.member(name, l)
		if ignored {
			continue
		}
		x, inA := a.members[name]
		y, inB := b.members[name]
		w.path = append(w.path, name)
		switch {
		case inA && inB:
			w.nodes(x, y, below, inside)
		case respelt[norm.NFC.String(name)]:
			w.report(DifferentUnicode)
		default:
			w.report(DifferentMissing)
		}
		w.path = w.path[:len(w.path)-1]
	}
}

// respellings returns the names on one side whose normalised form the other side has, keyed by
// that form.
func respellings(a, b node) map[string]bool {
	var lone, both map[string]bool
	for name := range a.members {
		if _, ok := b.members[name]; !ok {
			if lone == nil {
				lone = map[string]bool{}
			}
			lone[norm.NFC.String(name)] = true
		}
	}
	for name := range b.members {
		if _, ok := a.members[name]; !ok && lone[norm.NFC.String(name)] {
			if both == nil {
				both = map[string]bool{}
			}
			both[norm.NFC.String(name)] = true
		}
	}
	return both
}
