package record

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// maxShown bounds a value that a rule lets findings show, in bytes.
const maxShown = 256

// WithKey returns a comparer that hashes values with the given key, so that the hashes of two
// runs can be compared. NewComparer generates a key that is lost with the comparer.
func (c *Comparer) WithKey(key []byte) *Comparer {
	keyed := *c
	keyed.key = append([]byte(nil), key...)
	return &keyed
}

// Detail describes both sides of a difference without their values: a state, or "#" and 16
// hexadecimal digits of a keyed hash (HMAC-SHA256). Where a rule sets show, it gives the
// values themselves, quoted and cut to 256 bytes.
func (c *Comparer) Detail(d Difference, legacy, target Record) string {
	tokens, err := ParsePointer(d.Path)
	if err != nil || len(tokens) == 0 {
		return ""
	}
	at, ok := c.byName[tokens[0]]
	if !ok {
		return ""
	}
	f := &c.fields[at]
	rules, allowed := f.rules, f.leeway
	for _, token := range tokens[1:] {
		rules, allowed, _ = rules.member(token, allowed)
	}
	side := func(r Record) string {
		v := valueAt(r, at)
		if v.State == Present && len(tokens) > 1 {
			v = f.inside(v.Text, tokens[1:])
		}
		return c.side(v, allowed.show)
	}
	return "legacy " + side(legacy) + ", target " + side(target)
}

func (c *Comparer) side(v Value, show bool) string {
	switch {
	case v.State == Missing:
		return "missing"
	case v.State == Null:
		return "null"
	case show && len(v.Text) <= maxShown:
		return strconv.Quote(v.Text)
	case show:
		cut := maxShown
		for cut > 0 && !utf8.RuneStart(v.Text[cut]) {
			cut--
		}
		return strconv.Quote(v.Text[:cut]) + "..."
	}
	mac := hmac.New(sha256.New, c.key)
	mac.Write([]byte(v.Text))
	return "#" + hex.EncodeToString(mac.Sum(nil)[:8])
}

// inside returns the value at tokens in a JSON document.
func (f *Field) inside(text string, tokens []string) Value {
	n, ok := f.parse()(text)
	if !ok {
		return Value{}
	}
	for _, token := range tokens {
		switch {
		case n.kind == '{':
			n, ok = n.members[token]
		case n.kind == '[' && isIndex(token):
			var i int
			i, _ = number(token)
			if ok = i < len(n.items); ok {
				n = n.items[i]
			}
		default:
			ok = false
		}
		if !ok {
			return Value{}
		}
	}
	value := f.Kind == Array && f.Element == JSON // beside SQL's NULL, null is a value
	if n.kind == sqlNull || n.kind == 'n' && !value {
		return NullValue
	}
	return TextValue(n.render())
}

// render writes the node as JSON, members in the order of their names.
func (n node) render() string {
	var b strings.Builder
	n.write(&b)
	return b.String()
}

func (n node) write(b *strings.Builder) {
	switch n.kind {
	case '{':
		names := make([]string, 0, len(n.members))
		for name := range n.members {
			names = append(names, name)
		}
		slices.Sort(names)
		b.WriteByte('{')
		for i, name := range names {
			if i > 0 {
				b.WriteByte(',')
			}
			quoteJSON(b, name)
			b.WriteByte(':')
			n.members[name].write(b)
		}
		b.WriteByte('}')
	case '[':
		b.WriteByte('[')
		for i, item := range n.items {
			if i > 0 {
				b.WriteByte(',')
			}
			item.write(b)
		}
		b.WriteByte(']')
	case '"':
		quoteJSON(b, n.text)
	case 'n':
		b.WriteString("null")
	default:
		b.WriteString(n.text)
	}
}

func quoteJSON(b *strings.Builder, s string) {
	quoted, _ := jsontext.AppendQuote(nil, s)
	b.Write(quoted)
}
