package dual

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/record"
)

func oneField(f record.Field) *record.Schema {
	f.Name = "f"
	return &record.Schema{Fields: []record.Field{{Name: "id", Kind: record.Int, Type: "bigint", NotNull: true}, f}, Key: []int{0}}
}

// refusal of a struct with one more field, of the schema with one more.
func refusalOf[V any](f record.Field) string {
	_, err := NewCodec[int64, V](oneField(f), nil, nil)
	if err == nil {
		return ""
	}
	return err.Error()
}

// withField is a record of an id and one field.
type withField[T any] struct {
	ID int64 `db:"id"`
	F  T     `db:"f"`
}

func TestColumnsAreRefusedThatCantHoldTheirField(t *testing.T) {
	t.Parallel()
	type unexported struct {
		ID int64 `db:"id"`
		f  int   `db:"f"` //nolint:unused // the tag is the point
	}
	type inner struct {
		F int `db:"f"`
	}
	type embeddedPointer struct {
		ID int64 `db:"id"`
		*inner
	}
	text := record.Field{Kind: record.Text, Type: "text"}
	for _, c := range []struct{ got, want string }{
		{refusalOf[withField[*string]](text), ""},
		{refusalOf[withField[string]](text), `column "f": the column may be NULL, and string can't: use *string`},
		{refusalOf[withField[int]](record.Field{Kind: record.Decimal, Type: "numeric", NotNull: true}), "int does not hold values of numeric (decimal): use a string"},
		{refusalOf[withField[float64]](record.Field{Kind: record.Decimal, Type: "numeric", NotNull: true}), "use a string or a decimal type"},
		{refusalOf[withField[float32]](record.Field{Kind: record.Float, Type: "double precision", NotNull: true}), "float32 does not hold"},
		{refusalOf[withField[time.Duration]](record.Field{Kind: record.Interval, Type: "interval", NotNull: true}), "does not hold values of interval"},
		{refusalOf[withField[int64]](record.Field{Kind: record.TimestampTZ, Type: "timestamptz", NotNull: true}), "use time.Time"},
		{refusalOf[withField[map[string]any]](record.Field{Kind: record.JSON, Type: "jsonb", NotNull: true}), "or the tag's option json"},
		{refusalOf[withField[[]string]](record.Field{Kind: record.Array, Element: record.Int, Type: "bigint[]", NotNull: true}), ""}, // texts of integers
		{refusalOf[withField[[]float64]](record.Field{Kind: record.Array, Element: record.Int, Type: "bigint[]", NotNull: true}), "does not hold"},
		{refusalOf[int](text), "int is no struct"},
		{refusalOf[struct{}](text), "has a tag"},
		{refusalOf[unexported](text), "is not exported"},
		{refusalOf[embeddedPointer](text), "is in an embedded pointer"},
		{refusalOf[inner](text), `the application does not know field "id"`},
	} {
		if c.want == "" && c.got != "" || !strings.Contains(c.got, c.want) {
			t.Errorf("%q, want %q", c.got, c.want)
		}
	}
}

// TestValuesOfAnotherFormAreRefused: they would be another text than the backfill's. Errors
// don't contain them.
func TestValuesOfAnotherFormAreRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		field record.Field
		value string
		want  string // "": refused
	}{
		{record.Field{Kind: record.Date, Type: "date"}, "2024-02-29", "2024-02-29"},
		{record.Field{Kind: record.Date, Type: "date"}, "2024-02-29T00:00:00Z", ""}, // lib/pq's
		{record.Field{Kind: record.TimeOfDay, Type: "time"}, "12:00:00.5", "12:00:00.5"},
		{record.Field{Kind: record.TimeOfDay, Type: "time"}, "0000-01-01T12:00:00Z", ""},
		{record.Field{Kind: record.TimestampTZ, Type: "timestamptz"}, "2024-02-29T12:00:00.500+05:00", "2024-02-29T07:00:00.5Z"},
		{record.Field{Kind: record.TimestampTZ, Type: "timestamptz"}, "secret", ""},
		{record.Field{Kind: record.UUID, Type: "uuid"}, "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"},
		{record.Field{Kind: record.UUID, Type: "uuid"}, "secret", ""},
		{record.Field{Kind: record.Int, Type: "bigint"}, "-42", "-42"},
		{record.Field{Kind: record.Int, Type: "bigint"}, "4.2", ""},
		{record.Field{Kind: record.Decimal, Type: "numeric"}, "1.50", "1.50"},
		{record.Field{Kind: record.Decimal, Type: "numeric"}, "1,5", ""},
		{record.Field{Kind: record.Other, Type: "inet"}, "10.0.0.1/32", "10.0.0.1"},
		{record.Field{Kind: record.Other, Type: "inet"}, "10.0.0.0/8", "10.0.0.0/8"},
		{record.Field{Kind: record.Other, Type: "cidr"}, "10.0.0.1/32", "10.0.0.1/32"},
	} {
		c.field.NotNull = true
		codec, err := NewCodec[int64, withField[string]](oneField(c.field), nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		got, err := codec.Encode(withField[string]{F: c.value})
		switch {
		case c.want == "" && err == nil:
			t.Errorf("%s %q is taken for %q", c.field.Type, c.value, got[1].Text)
		case c.want == "" && strings.Contains(err.Error(), c.value):
			t.Errorf("%s: the error contains the value: %v", c.field.Type, err)
		case c.want != "" && (err != nil || got[1].Text != c.want):
			t.Errorf("%s %q: %v, %v", c.field.Type, c.value, got, err)
		}
	}
}

// TestWhatATargetLacksIsAnError: neither a missing field nor NULL becomes the zero value.
func TestWhatATargetLacksIsAnError(t *testing.T) {
	t.Parallel()
	codec, err := NewCodec[int64, withField[string]](oneField(record.Field{Kind: record.Text, Type: "text", NotNull: true}), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	nullable, err := NewCodec[int64, withField[*string]](oneField(record.Field{Kind: record.Text, Type: "text"}), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	id := record.TextValue("1")
	for _, r := range []record.Record{{id}, {id, {}}, {id, record.NullValue}} {
		if v, err := codec.Decode(r); err == nil {
			t.Errorf("%+v becomes %+v", r, v)
		}
	}
	if v, err := nullable.Decode(record.Record{id, record.NullValue}); err != nil || v.F != nil {
		t.Errorf("NULL: %+v, %v", v, err)
	}
	if v, err := nullable.Decode(record.Record{id}); err == nil {
		t.Errorf("no field: %+v", v)
	}
}

func TestKeysOfTypes(t *testing.T) {
	t.Parallel()
	type userID int64
	type composite struct {
		Region string `db:"region"`
		Day    int    `db:"day"`
	}
	single := func(f record.Field) *record.Schema { return &record.Schema{Fields: []record.Field{f}, Key: []int{0}} }
	of := func(key record.Key, err error) string {
		if err != nil {
			return "refused: " + err.Error()
		}
		return string(key)
	}
	integer := single(record.Field{Name: "id", Kind: record.Int, Type: "bigint"})
	text := single(record.Field{Name: "id", Kind: record.Text, Type: "text"})
	uuid := single(record.Field{Name: "id", Kind: record.UUID, Type: "uuid"})
	two := &record.Schema{Fields: []record.Field{
		{Name: "day", Kind: record.Int, Type: "int"}, {Name: "region", Kind: record.Text, Type: "text"}, {Name: "n", Kind: record.Int, Type: "int"},
	}, Key: []int{1, 0}}
	for _, c := range []struct{ got, want string }{
		{of(keyOfValue(integer, int64(-42))), "-42"},
		{of(keyOfValue(integer, userID(42))), "42"},
		{of(keyOfValue(integer, "42")), "42"},
		{of(keyOfValue(integer, "secret")), "%"},
		{of(keyOfValue(integer, 4.2)), "refused"},
		{of(keyOfValue(text, "a,b")), "a%2Cb"},
		{of(keyOfValue(text, "")), ""},
		{of(keyOfValue(uuid, [16]byte{0xa0, 15: 1})), "a0000000-0000-0000-0000-000000000001"},
		{of(keyOfValue(two, composite{"eu,1", 7})), "eu%2C1,7"},
		{of(keyOfValue(two, int64(7))), "refused"},
		{of(keyOfValue(two, struct {
			Region string `db:"region"`
		}{"eu"})), "refused"},
		{of(keyOfValue(two, withField[int]{1, 2})), "refused"},
	} {
		if c.want == "refused" && strings.HasPrefix(c.got, "refused") {
			continue
		}
		if c.got != c.want {
			t.Errorf("%q, want %q", c.got, c.want)
		}
	}
	if _, err := integer.CheckKey(noKey); err == nil {
		t.Error("what can't be a key is one")
	}
	if _, err := text.CheckKey(noKey); err == nil {
		t.Error("what can't be a key is one")
	}
}

func keyOfValue[K comparable](schema *record.Schema, k K) (record.Key, error) {
	key, err := KeyFor[K](schema)
	if err != nil {
		return "", err
	}
	return key(k), nil
}

// TestDocumentsByTag: a document is replaced whole, and what the target's lacks is not kept.
func TestDocumentsByTag(t *testing.T) {
	t.Parallel()
	type place struct{ City string }
	type withPlace struct {
		ID int64  `db:"id"`
		F  *place `migrator:"f,json"`
	}
	codec, err := NewCodec[int64, withPlace](oneField(record.Field{Kind: record.JSON, Type: "jsonb"}), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	r, err := codec.Encode(withPlace{1, &place{"<Zürich>"}})
	if err != nil || r[1].Text != `{"City":"<Zürich>"}` {
		t.Errorf("%+v, %v", r, err)
	}
	if r, err = codec.Encode(withPlace{ID: 1}); err != nil || r[1] != record.NullValue {
		t.Errorf("%+v, %v", r, err)
	}
	if v, err := codec.Decode(record.Record{record.TextValue("1"), record.TextValue("no JSON")}); err == nil {
		t.Errorf("%+v", v)
	}
	if refusal := refusalOf[struct {
		ID int64           `db:"id"`
		F  json.RawMessage `migrator:"f,json"`
	}](record.Field{Kind: record.Text, Type: "text"}); !strings.Contains(refusal, "not json") {
		t.Error(refusal)
	}
}
