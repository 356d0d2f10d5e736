// Package record defines what is moved: keys, versions, values and records, and the rules by
// which two records are the same. It does no I/O.
package record

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
)

// Kind determines how a value's canonical text is written and compared.
type Kind string

// The kinds, with the canonical text of each. Infinite and not-a-number values
// are written "Infinity", "-Infinity" and "NaN" in the numeric kinds, "infinity"
// and "-infinity" in the temporal ones.
const (
	Bool        Kind = "bool"        // true, false
	Int         Kind = "int"         // -42
	Decimal     Kind = "decimal"     // 12.50: every digit that legacy has; 12.5 and 12.50 are equal
	Float       Kind = "float"       // shortest text that reads back to the same float64
	Float32     Kind = "float32"     // shortest text that reads back to the same float32
	Text        Kind = "text"        // the bytes themselves
	Bytes       Kind = "bytes"       // the bytes themselves; base64 in JSON documents
	Date        Kind = "date"        // 2024-02-29, or "0044-03-15 BC"
	TimeOfDay   Kind = "time"        // as PostgreSQL prints it
	Timestamp   Kind = "timestamp"   // 2024-02-29T12:00:00.123456 without zone, trailing zeros of the fraction cut
	TimestampTZ Kind = "timestamptz" // the same in UTC, with a final Z
	Interval    Kind = "interval"    // ISO 8601, as PostgreSQL's intervalstyle iso_8601 prints it
	UUID        Kind = "uuid"        // lower case, with hyphens
	JSON        Kind = "json"        // JSON text; compared by meaning
	Array       Kind = "array"       // a JSON array of the elements' canonical values, or a JSON string with PostgreSQL's literal of what that can't hold (see FitsJSONArray); compared by meaning
	Other       Kind = "other"       // the store's own text, compared by bytes (enum, inet, range, geometry, ...)
)

// State is whether a value is present. NULL, missing and empty are three different things: an
// empty text is Present.
type State uint8

// The states of a value.
const (
	Missing State = iota // the store has no such field
	Null                 // the store has the field, without a value
	Present              // Text is the value
)

// Value is one field's value in canonical form.
type Value struct {
	State State
	Text  string // by the field's Kind; "" unless Present
}

// NullValue is the NULL value.
var NullValue = Value{State: Null}

// TextValue is a present value with the given canonical text.
func TextValue(text string) Value { return Value{State: Present, Text: text} }

// Field is one field of a record.
type Field struct {
	Name    string `json:"name"`              // its name in legacy, used in rules and findings
	Target  string `json:"target"`            // its name in the target
	Kind    Kind   `json:"kind"`              //
	Type    string `json:"type"`              // legacy's own type, as it prints it: numeric(10,2)
	Base    string `json:"base,omitempty"`    // Type without its domains, where it has any: numeric(10,2)
	Element Kind   `json:"element,omitempty"` // of an Array: its elements' kind
	NotNull bool   `json:"not_null"`

	Collation       string `json:"collation,omitempty"`        // of legacy's column; "": none, or not known
	TargetType      string `json:"target_type,omitempty"`      // the target's own type, where it has columns
	TargetCollation string `json:"target_collation,omitempty"` //
	Inside          string `json:"inside,omitempty"`           // of Type: InsideText; "": nothing that DDL could change, or not known
	TargetInside    string `json:"target_inside,omitempty"`    // of TargetType
	Number          int16  `json:"number,omitempty"`           // of legacy's column in Schema.Table: a renamed one keeps it
}

// Schema is the shape of a migration's records.
type Schema struct {
	Fields []Field `json:"fields"` // in the order of every Record's Values
	Key    []int   `json:"key"`    // indexes into Fields, in the key's order
	// Left are the other columns that legacy had: what it has besides these and Fields was added later.
	// Nil: not known.
	Left  []string `json:"left,omitempty"`
	Table int64    `json:"table,omitempty"` // legacy's number of the table, to which the fields' Numbers belong; 0: not known
}

// Hash is of what is moved: 64 hexadecimal digits over the fields with their types, and the key.
func (s *Schema) Hash() string {
	moved := struct {
		Fields []Field `json:"fields"`
		Key    []int   `json:"key"`
	}{slices.Clone(s.Fields), s.Key}
	for i := range moved.Fields {
		moved.Fields[i].Number = 0 // another server has other numbers for the same columns
	}
	text, _ := json.Marshal(moved) // texts and numbers: JSON can't fail on them
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// Index returns the position of the field with legacy's name, or -1.
func (s *Schema) Index(name string) int {
	for i := range s.Fields {
		if s.Fields[i].Name == name {
			return i
		}
	}
	return -1
}

// Record is one record: its values in the schema's order, the key's included.
type Record []Value

// KeyOf builds the record's key. Every key field must be present.
func (s *Schema) KeyOf(r Record) (Key, error) {
	if len(s.Key) == 1 {
		return s.singleKey(r)
	}
	parts := make([]string, len(s.Key))
	for i, at := range s.Key {
		if r[at].State != Present {
			return "", fmt.Errorf("key field %q is null", s.Fields[at].Name)
		}
		parts[i] = r[at].Text
	}
	return MakeKey(parts...), nil
}

func (s *Schema) singleKey(r Record) (Key, error) {
	at := s.Key[0]
	if r[at].State != Present {
		return "", fmt.Errorf("key field %q is null", s.Fields[at].Name)
	}
	return MakeKey(r[at].Text), nil
}
