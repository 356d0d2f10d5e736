package store_test

import (
	"encoding/json"
	"testing"

	"github.com/stranglerfig/migrator/store"
)

func TestChunkComesBackTheSame(t *testing.T) {
	t.Parallel()
	type part struct {
		Table string `json:"table"`
		From  int64  `json:"from"`
	}
	c, err := store.MakeChunk(12, part{"a <b>", -1 << 63})
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(c)
	if want := `{"rows":12,"from":-9223372036854775808,"table":"a \u003cb\u003e"}`; err != nil || string(text) != want {
		t.Errorf("%s, %v; want %s", text, err, want)
	}
	var again store.Chunk
	var of part
	if err := json.Unmarshal([]byte(`{ "table": "a <b>", "rows": 12, "from": -9223372036854775808 }`), &again); err != nil || again != c {
		t.Errorf("%+v, %v", again, err)
	}
	if err := again.Part(&of); err != nil || of != (part{"a <b>", -1 << 63}) {
		t.Errorf("%+v, %v", of, err)
	}
	for _, bad := range []string{`7`, `{"rows": 1.5}`, `{"rows": `} {
		if err := new(store.Chunk).UnmarshalJSON([]byte(bad)); err == nil {
			t.Errorf("%s is a chunk", bad)
		}
	}
	if _, err := store.MakeChunk(1, "text"); err == nil {
		t.Error("a text is a part")
	}
	if text, err := json.Marshal(store.Chunk{Rows: 5}); err != nil || string(text) != `{"rows":5}` {
		t.Errorf("%s, %v", text, err)
	}
	if err := (store.Chunk{Rows: 5}).Part(&of); err == nil {
		t.Error("a chunk without a part has one")
	}
}
