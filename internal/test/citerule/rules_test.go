package citerule

import (
	"os"
	"slices"
	"testing"
	"testing/fstest"
)

// TestRulesAreCitedWhereTheyAreKept: each rule of docs/protocol.md is cited by a comment
// of the product, and each citation in code, tests and documents names a rule.
func TestRulesAreCitedWhereTheyAreKept(t *testing.T) {
	t.Parallel()
	wrong, err := check(os.DirFS("../../.."))
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range wrong {
		t.Error(w)
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	const rows = "| rule | what it requires | without it |\n|---|---|---|\n" +
		"| **[not-after]** | A time. | Late. |\n| **[tombstone]** | A version, see [not-after]. | Back. |\n"
	const both = "package p\n\n// [not-after], [tombstone]: both.\nvar x int\n"
	for name, c := range map[string]struct {
		files map[string]string // beside docs/protocol.md, which they may replace
		want  []string
	}{
		"all is well": {files: map[string]string{"p/p.go": both}},
		"in a Lua script and a trailing comment": {files: map[string]string{
			"p/s.lua": "-- [not-after]: a script.\nreturn 1 -- [tombstone].\n",
		}},
		"in two places of one line, and in SQL": {files: map[string]string{
			"p/s.sql": "SELECT 1; -- [not-after] [tombstone]\n",
		}},
		"a rule that nothing cites": {
			files: map[string]string{"p/p.go": "package p\n\n// [not-after]: one.\nvar x int\n"},
			want:  []string{"docs/protocol.md:4: no line of the product cites [tombstone]"},
		},
		"a test, the model and an example keep no rule": {
			files: map[string]string{
				"p/p.go": "package p\n\n// [not-after]: one.\nvar x int\n", "p/p_test.go": both,
				"internal/test/model/m.go": both, "examples/e/e.go": both, "store/storetest/s.go": both,
			},
			want: []string{"docs/protocol.md:4: no line of the product cites [tombstone]"},
		},
		"a string is no comment": {
			files: map[string]string{"p/p.go": "package p\n\n// [not-after]\nvar x = \"[tombstone]: // [tombstone]: no\"\n"},
			want:  []string{"docs/protocol.md:4: no line of the product cites [tombstone]"},
		},
		"a misspelled rule": {
			files: map[string]string{"p/p.go": both, "p/q.go": "package p\n\nvar y int // see [not-afer].\n", "p/s.lua": "\n-- ([tombstones])\n"},
			want:  []string{"p/q.go:3: [not-afer] is no rule of docs/protocol.md", "p/s.lua:2: [tombstones] is no rule of docs/protocol.md"},
		},
		"a misspelled rule in a test, a block comment and the documents": {
			files: map[string]string{
				"p/p.go": both, "p/p_test.go": "package p\n\n/* one\ntwo [not-aftr]: */\n",
				"docs/model.md": "See [tomb-stone].\n", "docs/guarantees.md": "As [not-before] says.\n",
			},
			want: []string{
				"docs/guarantees.md:1: [not-before] is no rule of docs/protocol.md",
				"docs/model.md:1: [tomb-stone] is no rule of docs/protocol.md",
				"p/p_test.go:4: [not-aftr] is no rule of docs/protocol.md",
			},
		},
		"links, indexes, classes of characters and code are no citations": {
			files: map[string]string{
				"p/p.go":        both + "\n// [dual.Fleet] and [Name], rows[key-one], [a-z], a[index]: `[some-code]`.\nvar y int\n",
				"docs/model.md": "A [web-link](x.md), `[some-code]`.\n\n    [an-indented-block]\n\n```\n[in-a-block]\n```\n",
			},
		},
		"a row without its last column, and a rule twice": {
			files: map[string]string{
				"p/p.go":           both,
				"docs/protocol.md": rows + "| **[half]** | Only this. |\n| **[not-after]** | Again. | Twice. |\n",
			},
			want: []string{
				"docs/protocol.md:5: want | **[name]** | what it requires | what breaks without it |",
				"docs/protocol.md:6: [not-after] is at docs/protocol.md:3 too",
			},
		},
		"a page without rules": {
			files: map[string]string{"docs/protocol.md": "# The protocol\n"},
			want:  []string{"docs/protocol.md:1: there is no rule"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			module := fstest.MapFS{"docs/protocol.md": {Data: []byte(rows)}}
			for path, text := range c.files {
				module[path] = &fstest.MapFile{Data: []byte(text)}
			}
			got, err := check(module)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
		})
	}
}
