package storetest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// sameValue compares by meaning if the kind requires it, else by text.
func sameValue(kind record.Kind, a, b record.Value) bool {
	if a.State != b.State || a.State != record.Present {
		return a == b
	}
	switch kind {
	case record.JSON, record.Array:
		return reflect.DeepEqual(meaning(a.Text), meaning(b.Text))
	case record.Float, record.Float32:
		x, errX := strconv.ParseFloat(a.Text, 64)
		y, errY := strconv.ParseFloat(b.Text, 64)
		return errX == nil && errY == nil && (x == y || x != x && y != y) || a.Text == b.Text
	default:
		return a.Text == b.Text
	}
}

func meaning(text string) any {
	d := json.NewDecoder(bytes.NewReader([]byte(text)))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return fmt.Sprintf("not JSON: %v", err)
	}
	return v
}

// kindTexts are canonical texts of each kind that have revealed bugs.
var kindTexts = map[string][]string{
	"bool":        {"true", "false"},
	"int":         {"0", "-1", "9223372036854775807", "-9223372036854775808", "9007199254740993"},
	"decimal":     {"0", "12.50", "12.5", "-0.000000000000000000001", "123456789012345678901234567890.1234567890", "NaN", "Infinity", "-Infinity"},
	"float":       {"0", "-0", "0.1", "1e+300", "5e-324", "1.7976931348623157e+308", "NaN", "Infinity", "-Infinity"},
	"float32":     {"0.1", "16777216", "3.4028235e+38", "NaN", "-Infinity"},
	"text":        {"", " ", "a\nb\tc\r", "naïve café", "e\u0301", "🦖 𝔘 𠜎", `quote " backslash \ slash /`, "NaN", "null", "true", "42", "{}", "\u2028\u2029", "\x01\x1f\x7f", "<script>&", strings.Repeat("x", 100_000)},
	"bytes":       {"", "\x00", "\x00\xff\xfe\x00", "plain", string(allBytes())},
	"date":        {"2024-02-29", "0044-03-15 BC", "0001-01-01", "12024-12-31", "infinity", "-infinity"},
	"time":        {"00:00:00", "23:59:59.999999", "24:00:00"},
	"timestamp":   {"2024-02-29T12:00:00", "2024-02-29T12:00:00.123456", "2024-02-29T12:00:00.1", "0044-03-15T00:00:00 BC", "infinity", "-infinity"},
	"timestamptz": {"2024-02-29T12:00:00Z", "1969-12-31T23:59:59.999999Z", "infinity", "-infinity"},
	"interval":    {"PT0S", "P1Y2M3DT4H5M6.789S", "P-1Y-2M3DT-4H"},
	"uuid":        {"00000000-0000-0000-0000-000000000000", "f47ac10b-58cc-4372-a567-0e02b2c3d479"},
	"json":        {"null", "{}", "[]", `""`, `{"b": [1, {"c": null}], "a": "x"}`, "9007199254740993", "1.50", `"\u00e9\n\\ \""`, `{"_v": 1}`, `"🦖"`},
	"array":       {"[]", `["a", "", null, "b,c", "{\"x\"}", "🦖"]`, `[["a", "b"], ["c", null]]`},
	"Other Type":  {"10.0.0.1", "::1", "192.168.0.0/24"},
}

func allBytes() []byte {
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	return all
}

func testEveryKind(t *testing.T, h TargetHarness) {
	schema := AllKinds()
	b := newTargetFixture(t, h, schema, TargetOptions{})
	var writes []store.Write
	for i := range schema.Fields[1:] {
		f := schema.Fields[i+1]
		texts := kindTexts[f.Name]
		if len(texts) == 0 {
			t.Fatalf("no texts of field %q", f.Name)
		}
		for _, s := range texts {
			id := len(writes) + 1
			r := make(record.Record, len(schema.Fields))
			for j := range r {
				r[j] = record.NullValue
			}
			r[0], r[i+1] = text(strconv.Itoa(id)), text(s)
			writes = append(writes, store.Write{Key: keyOf(id), Record: r, Version: at(uint64(id))})
		}
	}
	full := make(record.Record, len(schema.Fields))
	for j, f := range schema.Fields {
		full[j] = text("1000")
		if j > 0 {
			full[j] = text(kindTexts[f.Name][0])
		}
	}
	writes = append(writes, store.Write{Key: keyOf(1000), Record: full, Version: at(1000)})
	for i, r := range b.apply(writes...) {
		if r.Outcome != store.Applied {
			t.Fatalf("write %d: %s", i, r.Outcome)
		}
	}
	found := b.scan()
	for _, w := range writes {
		b.live(w.Key, w.Record, w.Version)
		b.same(w.Key, found[string(w.Key)].Record, w.Record)
	}
}

func testEmptyIsNotNull(t *testing.T, h TargetHarness) {
	b := simpleFixture(t, h)
	empty, null := put(1, 1), put(2, 1)
	empty.Record[1], null.Record[1] = text(""), record.NullValue
	b.apply(empty, null)
	b.live(keyOf(1), empty.Record, at(1))
	b.live(keyOf(2), null.Record, at(1))
	swapped := put(1, 2)
	swapped.Record[1] = record.NullValue
	b.apply(swapped)
	b.live(keyOf(1), swapped.Record, at(2))
}

// testKeys uses composite keys with a part that contains every byte of a text.
func testKeys(t *testing.T, h TargetHarness) {
	b := newTargetFixture(t, h, Composite(), TargetOptions{})
	tenants := []string{"", "eu", "a,b", "a%2Cb", "a:b", "a:1", "{a}", "a}b{", "%", "100%25", "*", "a*", "[x]?", `back\slash`, " lead", "tab\there", "line\nfeed", "\x7f", "naïve", "🦖", "'", `"`, strings.Repeat("long", 100)}
	var writes []store.Write
	for i, tenant := range tenants {
		for _, number := range []string{"1", "-12"} {
			writes = append(writes, store.Write{
				Key:     record.MakeKey(tenant, number),
				Record:  record.Record{text(number), text(fmt.Sprint(i, " ", number)), text(tenant)},
				Version: at(1),
			})
		}
	}
	b.apply(writes...)
	for _, w := range writes {
		b.live(w.Key, w.Record, at(1))
	}
	gone := writes[len(writes)/2]
	b.want(store.Write{Key: gone.Key, Deleted: true, Version: at(2)}, store.Applied, at(2))
	found := b.scan()
	if len(found) != len(writes) {
		t.Errorf("Scan found %d entries, want %d", len(found), len(writes))
	}
	for _, w := range writes {
		e, ok := found[string(w.Key)]
		want := store.Live
		if w.Key == gone.Key {
			want = store.Tombstone
		}
		if !ok || e.Presence != want {
			t.Errorf("Scan: %q is %q, want %s", w.Key, e.Presence, want)
		}
	}
}
