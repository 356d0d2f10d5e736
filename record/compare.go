package record

import (
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
)

// Difference is one difference between two records.
type Difference struct {
	Path  string          `json:"path"` // JSON Pointer of the field, or of the member inside a JSON field
	Class DifferenceClass `json:"class"`
}

// DifferenceClass is the way in which two values differ.
type DifferenceClass string

// Classes of differences. An empty text is a value: it differs from NULL as null, and from an
// absent field as missing.
const (
	DifferentValue   DifferenceClass = "value"
	DifferentMissing DifferenceClass = "missing" // only one side has the field, or the member
	DifferentNull    DifferenceClass = "null"    // one side is NULL (JSON: null), the other has a value
	DifferentType    DifferenceClass = "type"    // the JSON types differ
	DifferentUnicode DifferenceClass = "unicode" // equal after normalisation (NFC): the texts were re-encoded
)

// maxNested bounds the differences reported inside one field.
const maxNested = 32

// Comparer decides whether two records are the same, by each field's kind and by the rules:
//
//   - int, bool, bytes, date, time, interval, text and other by their canonical bytes;
//   - decimal exactly (1.0 = 1.00); float by the number that the text reads back to;
//     NaN = NaN and -0 = 0 in both;
//   - timestamp and timestamptz by the instant in microseconds, whatever the offset;
//   - uuid without regard to case;
//   - json and array by meaning: members in any order, numbers as exact decimals
//     (1e2 = 100), strings by their code points, of duplicate members the last one.
//     Texts that are not valid JSON are compared as bytes.
//
// A rule's as replaces the kind of a text. A rule applies to its path and to everything inside it, unless a deeper rule overrides it. A
// Comparer is safe for concurrent use.
type Comparer struct {
	fields []comparedField
	byName map[string]int
	key    []byte
}

type comparedField struct {
	Field
	pointer string
	rules   *ruleNode
	leeway  leeway
}

// NewComparer prepares the comparison of records of the schema. The error lists every invalid
// rule, with the fields of the schema.
func NewComparer(schema *Schema, rules []Rule) (*Comparer, error) {
	c := &Comparer{fields: make([]comparedField, len(schema.Fields)), byName: map[string]int{}, key: make([]byte, 32)}
	if _, err := rand.Read(c.key); err != nil {
		return nil, fmt.Errorf("a key for the hashes of values: %w", err)
	}
	names := make([]string, len(schema.Fields))
	for i, f := range schema.Fields {
		c.fields[i] = comparedField{Field: f, pointer: AppendPointer("", f.Name), rules: &ruleNode{}}
		c.byName[f.Name] = i
		names[i] = f.Name
	}
	var wrong []error
	for _, r := range rules {
		if err := r.Validate(); err != nil {
			wrong = append(wrong, fmt.Errorf("compare: %w", err))
			continue
		}
		tokens, _ := ParsePointer(r.Path)
		at, ok := c.byName[tokens[0]]
		if !ok {
			wrong = append(wrong, fmt.Errorf("compare: path %q: there is no field %q; the fields are %s", r.Path, tokens[0], strings.Join(names, ", ")))
			continue
		}
		f := &c.fields[at]
		if err := f.rules.add(r, &f.Field, tokens[1:]); err != nil {
			wrong = append(wrong, fmt.Errorf("compare: %w", err))
		}
	}
	for i := range c.fields {
		c.fields[i].leeway = c.fields[i].rules.allow(leeway{})
	}
	return c, errors.Join(wrong...)
}

// Compare returns how target differs from legacy, in the order of the schema and, inside a
// field, of its members; nil when they are the same. It does not allocate if all texts are the
// same bytes. Values that a record lacks at its end are Missing.
func (c *Comparer) Compare(legacy, target Record) []Difference {
	var found []Difference
	for i := range c.fields {
		f := &c.fields[i]
		a, b := valueAt(legacy, i), valueAt(target, i)
		if a != b && !f.rules.ignore {
			found = f.compare(a, b, maxNested, found)
		}
	}
	return found
}

// Equal reports whether c.Compare(legacy, target) is empty; it stops at the first difference.
func (c *Comparer) Equal(legacy, target Record) bool {
	for i := range c.fields {
		f := &c.fields[i]
		a, b := valueAt(legacy, i), valueAt(target, i)
		if a != b && !f.rules.ignore && len(f.compare(a, b, 1, nil)) > 0 {
			return false
		}
	}
	return true
}

// Matters lists the fields that are not ignored. Two records with the same bytes in these
// fields are the same.
func (c *Comparer) Matters() []int {
	var fields []int
	for i := range c.fields {
		if !c.fields[i].rules.ignore {
			fields = append(fields, i)
		}
	}
	return fields
}

// Strict reports whether no rule lets values of the compared fields differ.
func (c *Comparer) Strict() bool {
	for i := range c.fields {
		if f := &c.fields[i]; !f.rules.ignore && f.rules.loosens() {
			return false
		}
	}
	return true
}

func valueAt(r Record, i int) Value {
	if i < len(r) {
		return r[i]
	}
	return Value{}
}

// parse returns how a document of the field is read.
func (f *Field) parse() func(string) (node, bool) {
	if f.Kind == Array && f.Element == JSON {
		return parseJSONArray
	}
	return parseDocument
}

func (f *comparedField) compare(a, b Value, limit int, found []Difference) []Difference {
	class := DifferenceClass("")
	switch {
	case a.State == b.State && a.State != Present:
	case a.State == Missing || b.State == Missing:
		class = DifferentMissing
	case a.State == Null || b.State == Null:
		class = DifferentNull
	case f.Kind == JSON || f.Kind == Array || f.leeway.as == JSON:
		d := documents{field: f.pointer, rules: f.rules, leeway: f.leeway, limit: limit}
		d.parse = f.parse()
		if f.Kind == Array && f.Element != JSON {
			d.element = f.Element
		}
		return d.compare(a.Text, b.Text, found)
	default:
		class = f.leeway.differ(f.Kind, a.Text, b.Text)
	}
	if class != "" {
		found = append(found, Difference{Path: f.pointer, Class: class})
	}
	return found
}
