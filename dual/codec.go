package dual

import (
	"errors"
	"fmt"
	"strings"

	"github.com/stranglerfig/migrator/record"
)

// Column reads and writes one field of the migration in an application's value. ColumnOf
// makes one of a Go type; Get and Set are for what that does not know. Their texts are
// canonical: see record.Kind.
type Column[V any] struct {
	Name string // the field's name in legacy
	Get  func(*V) record.Value
	Set  func(*V, record.Value) error
	// Optional columns are left out where the migration does not move them: before apply has added
	// them, and once it has dropped them. V then has the zero value where it comes from the target.
	Optional bool

	bind func(record.Field) (boundColumn[V], error) // in place of Get and Set
}

// boundColumn is a Column of one field.
type boundColumn[V any] struct {
	get func(*V) (record.Value, error)
	set func(*V, record.Value) error
}

func (c Column[V]) bound(f record.Field) (boundColumn[V], error) {
	switch {
	case c.bind != nil:
		return c.bind(f)
	case c.Get == nil || c.Set == nil:
		return boundColumn[V]{}, errors.New("the column has no Get or no Set")
	}
	return boundColumn[V]{get: func(v *V) (record.Value, error) { return c.Get(v), nil }, set: c.Set}, nil
}

// NewCodec builds a codec from columns, in any order; nil: those of V's tags (Columns). A nil
// key is K's own value (KeyFor). It fails unless the columns are the schema's fields, all of
// them and no other but Optional ones: the application's first write would erase a field that it does not know.
func NewCodec[K comparable, V any](schema *record.Schema, key func(K) record.Key, columns []Column[V]) (Codec[K, V], error) {
	var err error
	if columns == nil {
		if columns, err = Columns[V](); err != nil {
			return Codec[K, V]{}, err
		}
	}
	if key == nil {
		if key, err = KeyFor[K](schema); err != nil {
			return Codec[K, V]{}, err
		}
	}
	ordered := make([]boundColumn[V], len(schema.Fields))
	taken := make([]bool, len(schema.Fields))
	var wrong []string
	for _, c := range columns {
		at := schema.Index(c.Name)
		switch {
		case at < 0 && c.Optional:
		case at < 0:
			wrong = append(wrong, fmt.Sprintf("the migration does not move column %q", c.Name))
		case taken[at]:
			wrong = append(wrong, fmt.Sprintf("column %q is there twice", c.Name))
		default:
			taken[at] = true
			if ordered[at], err = c.bound(schema.Fields[at]); err != nil {
				wrong = append(wrong, fmt.Sprintf("column %q: %v", c.Name, err))
			}
		}
	}
	for i, f := range schema.Fields {
		if !taken[i] {
			wrong = append(wrong, fmt.Sprintf("the application does not know field %q", f.Name))
		}
	}
	if len(wrong) > 0 {
		return Codec[K, V]{}, fmt.Errorf("the application and the migration differ: %s", strings.Join(wrong, "; "))
	}
	return Codec[K, V]{
		Key: key,
		Encode: func(v V) (record.Record, error) {
			r := make(record.Record, len(ordered))
			for i := range ordered {
				var err error
				if r[i], err = ordered[i].get(&v); err != nil {
					return nil, fmt.Errorf("field %q: %w", schema.Fields[i].Name, err)
				}
			}
			return r, nil
		},
		Decode: func(r record.Record) (v V, err error) {
			for i := range ordered {
				value := record.Value{}
				if i < len(r) {
					value = r[i]
				}
				if err := ordered[i].set(&v, value); err != nil {
					return v, fmt.Errorf("field %q: %w", schema.Fields[i].Name, err)
				}
			}
			return v, nil
		},
	}, nil
}

// CompareBy compares two values as the migration's own reconcile does. A value that
// can't be encoded differs.
func CompareBy[K comparable, V any](codec Codec[K, V], c *record.Comparer) func(legacy, target V) []record.Difference {
	return func(legacy, target V) []record.Difference {
		a, err := codec.Encode(legacy)
		if err == nil {
			var b record.Record
			if b, err = codec.Encode(target); err == nil {
				return c.Compare(a, b)
			}
		}
		return []record.Difference{{Class: record.DifferentType}}
	}
}
