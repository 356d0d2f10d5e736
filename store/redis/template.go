package redis

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/record"
)

// Template makes a record's Redis key from its key columns, and the key columns
// from a Redis key: "product:{id}". {{ and }} are literal braces, which around a
// placeholder make a hash tag: "cart:{{{user}}}:{item}".
//
// Two records never share a Redis key: ParseTemplate refuses a template for which it
// can't prove that. Texts are written unchanged, except for %, {, } and control
// characters, which become % and two upper-case hexadecimal digits.
type Template struct {
	source   string
	literals []string // one more than columns
	columns  []column // in the order of the text
	free     int      // the column that takes the rest between the others; -1: none
	keyed    []int    // position in columns of each part of the record's key
}

// column is a placeholder.
type column struct {
	name  string
	part  int // which part of the record's key
	shape shape
}

// ParseTemplate reads a template for the schema's key: every key column exactly
// once, and no other.
func ParseTemplate(s string, schema *record.Schema) (*Template, error) {
	t, err := readTemplate(s, schema)
	if err != nil {
		return nil, fmt.Errorf("target.key %q: %w", s, err)
	}
	if strings.HasPrefix(t.literals[0], sidecarPrefix) {
		return nil, hint.Errorf(hint.Hint{Text: "begin target.key with something else"}, "target.key %q: names that begin with %s hold the versions of deleted records", s, sidecarPrefix)
	}
	if i, j, ok := t.ambiguous(); ok {
		return nil, t.ambiguity(i, j, schema)
	}
	return t, nil
}

func readTemplate(s string, schema *record.Schema) (*Template, error) {
	t := &Template{source: s, keyed: make([]int, len(schema.Key))}
	seen := make([]bool, len(schema.Key))
	var literal strings.Builder
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c != '{' && c != '}':
			literal.WriteByte(c)
		case i+1 < len(s) && s[i+1] == c:
			literal.WriteByte(c)
			i++
		case c == '}':
			return nil, hint.Errorf(hint.Hint{Text: "write }} for a literal }"}, "a } without {")
		default:
			name, end := placeholder(s[i:])
			if end < 0 {
				return nil, hint.Errorf(hint.Hint{Text: "write {{ for a literal {"}, "a { without }")
			}
			part, err := keyPart(name, schema)
			if err != nil {
				return nil, err
			}
			if seen[part] {
				return nil, fmt.Errorf("column %q appears twice", name)
			}
			sh, err := shapeOf(schema.Fields[schema.Key[part]])
			if err != nil {
				return nil, err
			}
			seen[part] = true
			t.keyed[part] = len(t.columns)
			t.columns = append(t.columns, column{name, part, sh})
			t.literals = append(t.literals, literal.String())
			literal.Reset()
			i += end
		}
	}
	t.literals = append(t.literals, literal.String())
	if missing := slices.Index(seen, false); missing >= 0 {
		return nil, fmt.Errorf("key column %q is missing; two records that differ in it alone would share a Redis key", schema.Fields[schema.Key[missing]].Name)
	}
	return t, nil
}

// placeholder returns the column's name at the beginning of s, and the position of the } that ends
// it; -1: there is none. A name with a } in it, or a quote as its first character, is written in
// double quotes, in which "" is one: {"a}b"}.
func placeholder(s string) (name string, end int) {
	if !strings.HasPrefix(s, `{"`) {
		end = strings.IndexByte(s, '}')
		if end < 0 {
			return "", -1
		}
		return s[1:end], end
	}
	for i := 2; i+1 < len(s); i++ {
		if s[i] != '"' {
			continue
		}
		switch s[i+1] {
		case '"':
			i++
		case '}':
			return strings.ReplaceAll(s[2:i], `""`, `"`), i + 1
		default:
			return "", -1
		}
	}
	return "", -1
}

// written is a column's placeholder.
func written(name string) string {
	if strings.Contains(name, "}") || strings.HasPrefix(name, `"`) {
		return `{"` + strings.ReplaceAll(name, `"`, `""`) + `"}`
	}
	return "{" + name + "}"
}

func keyPart(name string, schema *record.Schema) (int, error) {
	names := make([]string, len(schema.Key))
	for part, at := range schema.Key {
		names[part] = schema.Fields[at].Name
	}
	part := slices.Index(names, name)
	switch {
	case part >= 0:
		return part, nil
	case schema.Index(name) >= 0:
		return 0, fmt.Errorf("column %q is not in the record's key (%s)", name, strings.Join(names, ", "))
	default:
		return 0, fmt.Errorf("there is no column %q; the record's key is %s", name, strings.Join(names, ", "))
	}
}

// ambiguous finds two columns whose border a parser of the Redis key can't see: one
// whose end is not visible from the left, and a later one whose beginning is not
// visible from the right. Without such a pair every Redis key has exactly one parse,
// which Parse finds; a column in between takes the rest.
func (t *Template) ambiguous() (i, j int, found bool) {
	t.free = -1
	last := len(t.columns) - 1
	for i = 0; i <= last && t.columns[i].shape.endsBefore(t.literals[i+1]); i++ {
	}
	for j = last; j > i && t.columns[j].shape.beginsAfter(t.literals[j]); j-- {
	}
	if i <= last {
		t.free = i
	}
	return i, j, i < j
}

// String is the template as it was written.
func (t *Template) String() string { return t.source }

// Prefix is what every Redis key of the template begins with.
func (t *Template) Prefix() string { return t.literals[0] }

// Render returns the Redis key. It fails for a key with another number of columns
// than the template, or with a text that the column's kind can't have.
func (t *Template) Render(key record.Key) (string, error) {
	parts, err := key.Parts()
	if err != nil {
		return "", err
	}
	if len(parts) != len(t.columns) {
		return "", fmt.Errorf("key %q has %d columns, target.key %q has %d", string(key), len(parts), t.source, len(t.columns))
	}
	var b []byte
	for i, c := range t.columns {
		b = append(b, t.literals[i]...)
		part := parts[c.part]
		if !c.shape.valid(part) {
			return "", fmt.Errorf("key %q: column %q is no canonical text of kind %s", string(key), c.name, c.shape.kind)
		}
		b = c.shape.append(b, part)
	}
	return string(append(b, t.literals[len(t.columns)]...)), nil
}

// appendName appends the Redis key of a row; false if Render would fail.
func (t *Template) appendName(dst []byte, schema *record.Schema, row record.Record) ([]byte, bool) {
	for i := range t.columns {
		c := &t.columns[i]
		dst = append(dst, t.literals[i]...)
		v := &row[schema.Key[c.part]]
		if v.State != record.Present || !c.shape.valid(v.Text) {
			return dst, false
		}
		dst = c.shape.append(dst, v.Text)
	}
	return append(dst, t.literals[len(t.columns)]...), true
}

// errUnknownKey reports a Redis key that Render does not produce.
var errUnknownKey = errors.New("not a key of this template")

// Parse is the inverse of Render. It fails for every name that Render can't produce.
func (t *Template) Parse(raw string) (record.Key, error) {
	texts := make([]string, len(t.columns))
	rest := raw
	var ok bool
	stop := t.free
	if stop < 0 {
		stop = len(t.columns)
	}
	for i := range stop {
		if rest, ok = strings.CutPrefix(rest, t.literals[i]); !ok {
			return "", errUnknownKey
		}
		n := t.columns[i].shape.fromLeft(rest)
		texts[i], rest = rest[:n], rest[n:]
	}
	if rest, ok = strings.CutPrefix(rest, t.literals[stop]); !ok {
		return "", errUnknownKey
	}
	for i := len(t.columns); i > stop; i-- {
		if rest, ok = strings.CutSuffix(rest, t.literals[i]); !ok {
			return "", errUnknownKey
		}
		if i-1 == stop {
			texts[stop], rest = rest, ""
			break
		}
		n := t.columns[i-1].shape.fromRight(rest)
		texts[i-1], rest = rest[len(rest)-n:], rest[:len(rest)-n]
	}
	if rest != "" {
		return "", errUnknownKey
	}
	return t.key(texts)
}

func (t *Template) key(texts []string) (record.Key, error) {
	parts := make([]string, len(texts))
	for part, at := range t.keyed {
		text, ok := t.columns[at].shape.read(texts[at])
		if !ok {
			return "", errUnknownKey
		}
		parts[part] = text
	}
	return record.MakeKey(parts...), nil
}
