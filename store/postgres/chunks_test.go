package postgres_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"testing"

	"github.com/stranglerfig/migrator/store"
)

// TestChunksOfOlderVersionsAreRead: state databases hold chunks in the form that they had
// when store.Chunk had PostgreSQL's fields, with jsonb's blanks and order of keys. They
// can be read, and new chunks have the same form, so that an older version reads them.
func TestChunksOfOlderVersionsAreRead(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.exec(`CREATE TABLE items (id int PRIMARY KEY, filler text); INSERT INTO items SELECT i, repeat('x', 1000) FROM generate_series(1, 70) i; ANALYZE items`)
	l := d.legacy(testConfig("items"))
	file := d.text(`SELECT pg_relation_filenode('items')::text`)
	stored := fmt.Sprintf(`{"to": 4294967294, "file": %s, "from": 2, "rows": 56, "blocks": 8, "relation": "\"public\".\"items\""}`, file)
	var c store.Chunk
	d.ok(json.Unmarshal([]byte(stored), &c))
	rows := 0
	d.ok(l.Scan(d.ctx, c, func(store.Row) error {
		rows++
		return nil
	}))
	where, err := l.Locate(c)
	d.ok(err)
	if want := (store.Extent{Space: `"public"."items"`, Generation: where.Generation, From: 2, To: 10}); rows != 56 || c.Rows != 56 || where != want || fmt.Sprint(where.Generation) != file {
		t.Errorf("%d rows, estimated %d, at %+v", rows, c.Rows, where)
	}
	if _, ok := l.SpanOf(c); ok {
		t.Error("a chunk of blocks is read as a span")
	}

	chunks, err := l.Chunks(d.ctx, 14)
	d.ok(err)
	if names := fields(t, chunks[0]); !slices.Equal(names, []string{"blocks", "file", "from", "relation", "rows", "to"}) {
		t.Errorf("a chunk has %q", names)
	}
	var again []store.Chunk
	text, err := json.Marshal(chunks)
	d.ok(err)
	d.ok(json.Unmarshal([]byte(d.text("SELECT $1::jsonb::text", string(text))), &again))
	if !slices.Equal(chunks, again) {
		t.Errorf("%s\nwas read back as %+v", text, again)
	}

	var span store.Chunk
	d.ok(json.Unmarshal([]byte(`{"to": 0, "file": 0, "from": 0, "keys": {"to": 5, "from": -9223372036854775808}, "rows": 12, "blocks": 0, "relation": ""}`), &span))
	if s, ok := l.SpanOf(span); !ok || s != (store.Span{From: math.MinInt64, To: 5}) || span.Rows != 12 {
		t.Errorf("%+v, %v of %d rows", s, ok, span.Rows)
	}
	spans, _, err := l.Spans(d.ctx, 10)
	d.ok(err)
	if names := fields(t, spans[0]); !slices.Equal(names, []string{"blocks", "file", "from", "keys", "relation", "rows", "to"}) {
		t.Errorf("a span has %q", names)
	}
}

// TestUnreadableChunkIsMoved: a chunk that can't be read gives ErrMoved.
func TestUnreadableChunkIsMoved(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.exec(`CREATE TABLE items (id int PRIMARY KEY)`)
	l := d.legacy(testConfig("items"))
	for _, stored := range []string{`{}`, `{"rows": 7}`, `{"relation": 7}`, `{"bucket": "a", "rows": 7}`} {
		var c store.Chunk
		d.ok(json.Unmarshal([]byte(stored), &c))
		if err := l.Scan(d.ctx, c, nil); !errors.Is(err, store.ErrMoved) {
			t.Errorf("%s: %v", stored, err)
		}
	}
}

func fields(t *testing.T, c store.Chunk) []string {
	t.Helper()
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]any{}
	if err := json.Unmarshal(text, &all); err != nil {
		t.Fatal(err)
	}
	return slices.Sorted(maps.Keys(all))
}
