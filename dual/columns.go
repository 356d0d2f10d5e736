package dual

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/stranglerfig/migrator/record"
)

// ColumnOf is the column of one Go value: of points to it within an application's value.
//
//	dual.ColumnOf("user_id", func(s *Session) *int64 { return &s.UserID })
//
// T may be an integer, a float, a bool, a string, []byte, time.Time, [16]byte (uuid), a slice
// of them (array), a pointer to one of them (NULL), and what implements sql.Scanner with
// driver.Valuer (sql.Null, uuid.UUID, decimal.Decimal, pgtype's types), or
// encoding.TextMarshaler with TextUnmarshaler. NewCodec refuses a T that can't hold every
// value of its field: a string for a column that may be NULL, an integer for numeric.
func ColumnOf[V, T any](name string, of func(*V) *T) Column[V] {
	return typedColumn(name, reflect.TypeFor[T](), false, func(v *V) any { return of(v) })
}

// JSONColumn is the column of a Go value that a json or jsonb field holds as encoding/json
// writes it: a write erases members that T lacks. A nil pointer, map or slice is NULL where the
// column may be NULL.
func JSONColumn[V, T any](name string, of func(*V) *T) Column[V] {
	return typedColumn(name, reflect.TypeFor[T](), true, func(v *V) any { return of(v) })
}

func typedColumn[V any](name string, t reflect.Type, asJSON bool, of func(*V) any) Column[V] {
	return Column[V]{Name: name, bind: func(f record.Field) (boundColumn[V], error) {
		a, err := adapterOf(t, f, asJSON)
		if err != nil {
			return boundColumn[V]{}, err
		}
		return boundColumn[V]{
			get: func(v *V) (record.Value, error) { return a.encode(of(v)) },
			set: func(v *V, value record.Value) error { return a.decode(of(v), value) },
		}, nil
	}}
}

// Columns are the columns of a struct by its fields' tags: migrator:"user_id", or without that
// db:"user_id". Fields without a tag, or with "-", are no columns; embedded structs are part of
// V. An option json makes a JSONColumn: migrator:"payload,json"; an option optional an Optional
// column: migrator:"stock,optional".
func Columns[V any]() ([]Column[V], error) {
	fields, err := taggedFields(reflect.TypeFor[V]())
	if err != nil {
		return nil, err
	}
	columns := make([]Column[V], len(fields))
	for i, f := range fields {
		columns[i] = typedColumn(f.name, f.of, f.json, func(v *V) any {
			return reflect.ValueOf(v).Elem().FieldByIndex(f.index).Addr().Interface()
		})
		columns[i].Optional = f.optional
	}
	return columns, nil
}

type taggedField struct {
	name     string
	json     bool
	optional bool
	of       reflect.Type
	index    []int
}

func taggedFields(t reflect.Type) (found []taggedField, err error) {
	if t.Kind() != reflect.Struct {
		return nil, fmt.Errorf("dual: %s is no struct, so it has no tags: list its columns", t)
	}
	for _, f := range reflect.VisibleFields(t) {
		tag, ok := f.Tag.Lookup("migrator")
		if !ok {
			tag, ok = f.Tag.Lookup("db")
		}
		name, options, _ := strings.Cut(tag, ",")
		if !ok || name == "-" || name == "" {
			continue
		}
		if !f.IsExported() {
			return nil, fmt.Errorf("dual: the field %s.%s has a tag and is not exported", t, f.Name)
		}
		for i := range f.Index[:len(f.Index)-1] {
			if t.FieldByIndex(f.Index[:i+1]).Type.Kind() == reflect.Pointer {
				return nil, fmt.Errorf("dual: the field %s.%s is in an embedded pointer: embed the struct itself, or list the columns", t, f.Name)
			}
		}
		found = append(found, taggedField{
			name: name, of: f.Type, index: f.Index,
			json: slices.Contains(strings.Split(options, ","), "json"), optional: slices.Contains(strings.Split(options, ","), "optional"),
		})
	}
	if len(found) == 0 {
		return nil, fmt.Errorf(`dual: no field of %s has a tag, such as migrator:"user_id"`, t)
	}
	return found, nil
}

// KeyFor returns the function that makes a record's key of K: the key column's value or, for
// a key of several columns, a struct with their tags. A value that can't be a key (the text
// "abc" for an integer) becomes a key that no record has, and stores refuse it.
func KeyFor[K comparable](schema *record.Schema) (func(K) record.Key, error) {
	of := reflect.TypeFor[K]()
	if len(schema.Key) == 1 {
		f := schema.Fields[schema.Key[0]]
		if key, ok := plainKey[K](f.Kind); ok {
			return key, nil
		}
		if a, err := adapterOf(of, notNull(f), false); err == nil {
			return func(k K) record.Key {
				v, err := a.encode(&k)
				if err != nil || v.State != record.Present {
					return noKey
				}
				return record.MakeKey(v.Text)
			}, nil
		} else if of.Kind() != reflect.Struct {
			return nil, fmt.Errorf("dual: the key field %q: %w", f.Name, err)
		}
	}
	fields, err := taggedFields(of)
	if err != nil {
		return nil, fmt.Errorf("%w; or give a function Key", err)
	}
	type part struct {
		adapter
		index []int
	}
	parts := make([]part, len(schema.Key))
	for i, at := range schema.Key {
		f := schema.Fields[at]
		n := slices.IndexFunc(fields, func(t taggedField) bool { return t.name == f.Name })
		if n < 0 {
			return nil, fmt.Errorf("dual: %s has no field for the key column %q", of, f.Name)
		}
		a, err := adapterOf(fields[n].of, notNull(f), false)
		if err != nil {
			return nil, fmt.Errorf("dual: the key field %q: %w", f.Name, err)
		}
		parts[i] = part{a, fields[n].index}
	}
	if len(fields) != len(parts) {
		return nil, fmt.Errorf("dual: %s has %d tagged fields, the key %d columns", of, len(fields), len(parts))
	}
	return func(k K) record.Key {
		texts := make([]string, len(parts))
		for i, p := range parts {
			v, err := p.encode(reflect.ValueOf(&k).Elem().FieldByIndex(p.index).Addr().Interface())
			if err != nil || v.State != record.Present {
				return noKey
			}
			texts[i] = v.Text
		}
		return record.MakeKey(texts...)
	}, nil
}

// noKey is what a value becomes that can't be a key. It is no key of any schema: MakeKey
// writes no such escape.
const noKey record.Key = "%"

// plainKey are the keys of most tables, without reflection: a read in cutover makes one.
func plainKey[K comparable](kind record.Kind) (key func(K) record.Key, ok bool) {
	switch kind {
	case record.Int:
		key, ok = any(func(k int64) record.Key { return record.Key(strconv.FormatInt(k, 10)) }).(func(K) record.Key)
	case record.Text:
		key, ok = any(func(k string) record.Key { return record.MakeKey(k) }).(func(K) record.Key)
	default:
	}
	return key, ok
}

func notNull(f record.Field) record.Field {
	f.NotNull = true
	return f
}

var errMissing = errors.New("the target's record lacks the field")
