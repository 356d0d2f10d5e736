package postgres

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

var elementKinds = []record.Kind{
	record.Text, record.Int, record.Decimal, record.Float, record.Bool, record.Bytes, record.JSON, record.Timestamp, record.TimestampTZ, record.Other,
}

// FuzzAppendArray: no text makes it panic, and a text[] becomes JSON that is converted back
// to the same literal.
func FuzzAppendArray(f *testing.F) {
	for _, s := range []string{`{}`, `{1,NULL}`, `{"a\"b",c}`, `{{1},{2}}`, `[0:1]={1,2}`, `{"`, `{"\`, `{,}`, `{a`, `{""}`, `{{{{{{{1}}}}}}}`, `{}}`, `{"\\x00"}`, `{"2024-02-29 12:00:00+00"}`, ``} {
		for kind := range elementKinds {
			f.Add(s, uint8(kind))
		}
	}
	f.Fuzz(func(t *testing.T, s string, kind uint8) {
		form := format{kind: record.Array, element: elementKinds[int(kind)%len(elementKinds)], delimiter: ','}
		out, err := appendArray(nil, form, []byte(s))
		if err != nil || form.element != record.Text || !utf8.ValidString(s) {
			return
		}
		if !json.Valid(out) {
			t.Fatalf("%q became %q, which is no JSON", s, out)
		}
		literal, err := arrayLiteral(form, string(out))
		if err != nil {
			t.Fatalf("%q became %s, which leads nowhere: %v", s, out, err)
		}
		again, err := appendArray(nil, form, []byte(literal))
		if err != nil || string(again) != string(out) {
			t.Fatalf("%q became %s, then %q, then %s (%v)", s, out, literal, again, err)
		}
	})
}

// FuzzArrayLiteral: any JSON is either refused or becomes a literal that can be read again.
func FuzzArrayLiteral(f *testing.F) {
	for _, s := range []string{`[]`, `[1,"a",null,[true]]`, `"[0:0]={1}"`, `null`, `[[[[[[[1]]]]]]]`, `["\u0000","\ud800"]`, `["AP8="]`, `{"a":1}`, ` [ 1 ] `} {
		for kind := range elementKinds {
			f.Add(s, uint8(kind))
		}
	}
	f.Fuzz(func(t *testing.T, s string, kind uint8) {
		form := format{kind: record.Array, element: elementKinds[int(kind)%len(elementKinds)], delimiter: ','}
		literal, err := arrayLiteral(form, s)
		if err == nil && form.element == record.Text && strings.HasPrefix(literal, "{") {
			if _, err := appendArray(nil, form, []byte(literal)); err != nil && !strings.Contains(s, `"`) {
				t.Fatalf("%q became the literal %q: %v", s, literal, err)
			}
		}
	})
}

// FuzzAppendInstant: canonical timestamps are converted back to the server's text.
func FuzzAppendInstant(f *testing.F) {
	for _, s := range []string{"2024-02-29 12:00:00", "2024-02-29 12:00:00.5+00 BC", "infinity", " ", "", "+00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, kind := range []record.Kind{record.Timestamp, record.TimestampTZ} {
			out, err := appendInstant(nil, kind, []byte(s))
			if err == nil && len(out) > len(s)+1 {
				t.Fatalf("%q became the longer %q", s, out)
			}
		}
	})
}

func TestParseTable(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		`products`:                   `"public"."products"`,
		`Products`:                   `"public"."products"`,
		`shop.products`:              `"shop"."products"`,
		`"Order Items"`:              `"public"."Order Items"`,
		`"My Schema"."Order Items"`:  `"My Schema"."Order Items"`,
		`"a.b"."c""d"`:               `"a.b"."c""d"`,
		`shop."Order Items"`:         `"shop"."Order Items"`,
		`größe`:                      `"public"."größe"`,
		``:                           "",
		`Order Items`:                "",
		`a.b.c`:                      "",
		`"open`:                      "",
		`""`:                         "",
		`a.`:                         "",
		`.a`:                         "",
		`1a`:                         "",
		`products; DROP TABLE users`: "",
	} {
		id, err := parseTable(in)
		if (err != nil) != (want == "") || err == nil && id.Sanitize() != want {
			t.Errorf("%s: %v, %v; want %s", in, id, err, want)
		}
	}
}

func FuzzParseTable(f *testing.F) {
	for _, s := range []string{`a.b`, `"a""b"."c"`, `"`, `a"b"`, "\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		id, err := parseTable(s)
		if err != nil {
			return
		}
		for _, shown := range []string{showTable(id), id.Sanitize()} {
			again, err := parseTable(shown)
			if err != nil || !equal(again, id) {
				t.Fatalf("%q is %q, shown as %q, which is %q (%v)", s, id, shown, again, err)
			}
		}
	})
}

func equal(a, b pgx.Identifier) bool { return a.Sanitize() == b.Sanitize() }

func TestLiteral(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{`products`: `'products'`, `it's`: `'it''s'`, `a\'b`: ` E'a\\''b'`} {
		if got := literal(in); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}

func TestDecide(t *testing.T) {
	t.Parallel()
	v := func(n uint64) record.Version { return record.MakeVersion(1, 0, n) }
	only := func(n uint64) *record.Version { w := v(n); return &w }
	none := &record.Version{}
	for name, c := range map[string]struct {
		w    store.Write
		s    keyState
		want store.Outcome
	}{
		"new":                           {store.Write{Version: v(1)}, keyState{created: true}, store.Applied},
		"newer":                         {store.Write{Version: v(2)}, keyState{version: v(1), present: true}, store.Applied},
		"same":                          {store.Write{Version: v(1)}, keyState{version: v(1), present: true}, store.Older},
		"only the same":                 {store.Write{Version: v(1), Only: only(1)}, keyState{version: v(1), present: true}, store.Applied},
		"only, backwards":               {store.Write{Version: v(1), Only: only(2)}, keyState{version: v(2), present: true}, store.Older},
		"only, a repair backwards":      {store.Write{Version: v(1), Only: only(2), Overwrite: true}, keyState{version: v(2), present: true}, store.Applied},
		"only another":                  {store.Write{Version: v(3), Only: only(1)}, keyState{version: v(2), present: true}, store.Changed},
		"only nothing":                  {store.Write{Version: v(3), Only: none}, keyState{created: true}, store.Applied},
		"only nothing, tombstone":       {store.Write{Version: v(3), Only: none}, keyState{version: v(2), deleted: true}, store.Changed},
		"foreign":                       {store.Write{Version: v(1)}, keyState{created: true, present: true}, store.Foreign},
		"foreign after a tombstone":     {store.Write{Version: v(9)}, keyState{version: v(2), deleted: true, present: true}, store.Foreign},
		"overwrite":                     {store.Write{Version: v(1), Overwrite: true}, keyState{created: true, present: true}, store.Applied},
		"overwrite, but older":          {store.Write{Version: v(1), Overwrite: true}, keyState{version: v(2), deleted: true, present: true}, store.Older},
		"foreign, a repair's delete":    {store.Write{Version: v(3), Overwrite: true, Deleted: true}, keyState{created: true, present: true}, store.Foreign},
		"over a tombstone, the same":    {store.Write{Version: v(3), Overwrite: true, Deleted: true}, keyState{version: v(2), deleted: true, present: true}, store.Foreign},
		"ours, a repair's delete":       {store.Write{Version: v(2), Only: only(2), Overwrite: true, Deleted: true}, keyState{version: v(2), present: true}, store.Applied},
		"row deleted by another client": {store.Write{Version: v(3)}, keyState{version: v(2)}, store.Applied},
	} {
		if got := decide(&c.w, &c.s); got.Outcome != c.want {
			t.Errorf("%s: %s, want %s", name, got.Outcome, c.want)
		}
	}
}
