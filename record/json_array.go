package record

import (
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// An array of JSON has two forms. One is a JSON array, in which null is SQL's NULL. The other is a
// JSON string with PostgreSQL's literal, {"null",NULL}: of arrays that the first form can't hold.
// Both are compared by their meaning.

// FitsJSONArray reports whether a JSON value would come back from a JSON array as it was. The JSON
// value null would be SQL's NULL, blanks around a value are lost, and lone surrogates make the whole
// array unreadable for most parsers.
func FitsJSONArray(element string) bool {
	return element != "null" && strings.Trim(element, " \t\r\n") == element && jsontext.Value(element).IsValid(jsontext.AllowDuplicateNames(true))
}

// MakeJSONArray is the canonical text of an array of JSON with one dimension, whose elements are
// present or NULL.
func MakeJSONArray(elements []Value) string {
	var list, literal strings.Builder
	fits := true
	for i, v := range elements {
		if i > 0 {
			list.WriteByte(',')
			literal.WriteByte(',')
		}
		if v.State != Present {
			list.WriteString("null")
			literal.WriteString("NULL")
			continue
		}
		fits = fits && FitsJSONArray(v.Text)
		list.WriteString(v.Text)
		writeLiteral(&literal, v.Text)
	}
	if fits {
		return "[" + list.String() + "]"
	}
	var b strings.Builder
	quoteJSON(&b, "{"+literal.String()+"}")
	return b.String()
}

// writeLiteral writes an element as PostgreSQL does: in quotes where it needs them.
func writeLiteral(b *strings.Builder, element string) {
	if element != "" && !strings.EqualFold(element, "NULL") && !strings.ContainsAny(element, "\"\\{}, \t\n\r\v\f") {
		b.WriteString(element)
		return
	}
	b.WriteByte('"')
	for i := range len(element) {
		if element[i] == '"' || element[i] == '\\' {
			b.WriteByte('\\')
		}
		b.WriteByte(element[i])
	}
	b.WriteByte('"')
}

// ParseJSONArray returns the elements of an array of JSON with one dimension; false if the text is
// none.
func ParseJSONArray(text string) ([]Value, bool) {
	var values []Value
	trimmed := strings.TrimSpace(text)
	if !strings.HasPrefix(trimmed, `"`) {
		in := jsontext.NewDecoder(strings.NewReader(trimmed), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
		if open, err := in.ReadToken(); err != nil || open.Kind() != '[' {
			return nil, false
		}
		for in.PeekKind() != ']' {
			element, err := in.ReadValue()
			switch {
			case err != nil:
				return nil, false
			case element.Kind() == 'n':
				values = append(values, NullValue)
			default:
				values = append(values, TextValue(string(element)))
			}
		}
		return values, true
	}
	whole, err := jsontext.AppendUnquote(nil, trimmed)
	if err != nil {
		return nil, false
	}
	p := literalParser{rest: string(whole)}
	n, ok := p.list()
	if !ok || p.rest != "" {
		return nil, false
	}
	for _, item := range n.items {
		switch item.kind {
		case '[':
			return nil, false
		case sqlNull:
			values = append(values, NullValue)
		default:
			values = append(values, TextValue(item.text))
		}
	}
	return values, true
}

// Kinds of nodes that only an array of JSON has.
const (
	sqlNull jsontext.Kind = 'N'
	rawText jsontext.Kind = 'r' // an element that is not parsed, or can't be
)

// parseJSONArray parses either form.
func parseJSONArray(text string) (node, bool) {
	n, ok := parseDocument(text)
	switch {
	case !ok:
		return n, false
	case n.kind == '[':
		for i := range n.items {
			if n.items[i].kind == 'n' {
				n.items[i].kind = sqlNull
			}
		}
		return n, true
	case n.kind != '"':
		return n, false
	}
	bounds := ""
	if strings.HasPrefix(n.text, "[") {
		bounds, n.text, _ = strings.Cut(n.text, "=")
	}
	p := literalParser{rest: n.text}
	if n, ok = p.list(); !ok || p.rest != "" {
		return n, false
	}
	n.text = bounds
	n.parseElements()
	return n, true
}

func (n *node) parseElements() {
	for i := range n.items {
		switch item := &n.items[i]; item.kind {
		case '[':
			item.parseElements()
		case rawText:
			if parsed, ok := parseDocument(item.text); ok {
				*item = parsed
			}
		}
	}
}

// literalParser parses PostgreSQL's literal of an array with a comma between its elements.
type literalParser struct{ rest string }

func (p *literalParser) take(c byte) bool {
	if p.rest == "" || p.rest[0] != c {
		return false
	}
	p.rest = p.rest[1:]
	return true
}

func (p *literalParser) list() (n node, ok bool) {
	n.kind = '['
	if !p.take('{') {
		return n, false
	}
	if p.take('}') {
		return n, true
	}
	for {
		item := node{kind: rawText}
		switch {
		case strings.HasPrefix(p.rest, "{"):
			item, ok = p.list()
		case p.take('"'):
			item.text, ok = p.quoted()
		default:
			end := strings.IndexAny(p.rest, `,}"{\`)
			if ok = end > 0; ok {
				item.text, p.rest = p.rest[:end], p.rest[end:]
			}
			if item.text == "NULL" {
				item = node{kind: sqlNull}
			}
		}
		if !ok {
			return n, false
		}
		n.items = append(n.items, item)
		if p.take('}') {
			return n, true
		}
		if !p.take(',') {
			return n, false
		}
	}
}

func (p *literalParser) quoted() (string, bool) {
	var b strings.Builder
	for i := 0; i < len(p.rest); i++ {
		switch c := p.rest[i]; {
		case c == '"':
			p.rest = p.rest[i+1:]
			return b.String(), true
		case c == '\\' && i+1 < len(p.rest):
			i++
			b.WriteByte(p.rest[i])
		case c == '\\':
			return "", false
		default:
			b.WriteByte(c)
		}
	}
	return "", false
}
