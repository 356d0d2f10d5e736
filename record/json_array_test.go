package record_test

import (
	"slices"
	"testing"

	"github.com/stranglerfig/migrator/record"
)

func TestArraysOfJSON(t *testing.T) {
	t.Parallel()
	v, null := record.TextValue, record.NullValue
	for text, elements := range map[string][]record.Value{
		`[]`:                                   nil,
		`[null,1]`:                             {null, v("1")},
		`[[null],{"a": "x"}]`:                  {v("[null]"), v(`{"a": "x"}`)},
		`"{\"null\",NULL}"`:                    {v("null"), null},
		`"{\" 1\",2}"`:                         {v(" 1"), v("2")},
		`"{\"{\\\"a\\\": null}\",\"null\",3}"`: {v(`{"a": null}`), v("null"), v("3")},
		`"{\"\\\"\\\\ud800\\\"\"}"`:            {v(`"\ud800"`)},
	} {
		if got := record.MakeJSONArray(elements); got != text {
			t.Errorf("%v is %s, want %s", elements, got, text)
		}
		if got, ok := record.ParseJSONArray(text); !ok || !slices.Equal(got, elements) {
			t.Errorf("%s: %v, %v", text, got, ok)
		}
	}
	for _, text := range []string{``, `1`, `"x"`, `"{"`, `"{1"`, `"{1}x"`, `"{{1}}"`, `"[0:0]={1}"`, `[1`, `"{\"a}"`} {
		if got, ok := record.ParseJSONArray(text); ok {
			t.Errorf("%s: %v", text, got)
		}
	}
}

// TestCompareArraysOfJSON: by meaning, whichever form they have; JSON's null is not SQL's NULL.
func TestCompareArraysOfJSON(t *testing.T) {
	t.Parallel()
	schema := &record.Schema{Fields: []record.Field{{Name: "j", Target: "j", Kind: record.Array, Element: record.JSON, Type: "jsonb[]"}}}
	compare, err := record.NewComparer(schema, []record.Rule{{Path: "/j/1/n", Ignore: "a counter"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		a, b string
		want []record.Difference
	}{
		{`[null]`, `"{NULL}"`, nil},
		{`[null]`, `"{\"null\"}"`, []record.Difference{{Path: "/j/0", Class: record.DifferentNull}}},
		{`"{\"null\",NULL}"`, `"{NULL,\"null\"}"`, []record.Difference{{Path: "/j/0", Class: record.DifferentNull}, {Path: "/j/1", Class: record.DifferentNull}}},
		{`"{\"null\",\"{\\\"a\\\": 1.0}\"}"`, `"{\"null\",\"{\\\"a\\\":1}\"}"`, nil},
		{`"{\"null\",\"{\\\"n\\\": 1}\"}"`, `"{\"null\",\"{\\\"n\\\":2}\"}"`, nil},
		{`"{{\"null\"},{1}}"`, `"{{NULL},{1}}"`, []record.Difference{{Path: "/j/0/0", Class: record.DifferentNull}}},
		{`"[0:0]={1}"`, `"[1:1]={1}"`, []record.Difference{{Path: "/j", Class: record.DifferentValue}}},
		{`"[0:0]={1}"`, `[1]`, []record.Difference{{Path: "/j", Class: record.DifferentValue}}},
		{`"{\"\\\"\\\\ud800\\\"\"}"`, `"{\"\\\"\\\\ud801\\\"\"}"`, []record.Difference{{Path: "/j/0", Class: record.DifferentValue}}},
		{`"not a literal"`, `"{1}"`, []record.Difference{{Path: "/j", Class: record.DifferentValue}}},
	} {
		a, b := record.Record{record.TextValue(c.a)}, record.Record{record.TextValue(c.b)}
		got := compare.Compare(a, b)
		if !slices.Equal(got, c.want) {
			t.Errorf("%s and %s: %v, want %v", c.a, c.b, got, c.want)
		}
		for _, d := range got {
			if detail := compare.Detail(d, a, b); detail == "" || detail == "legacy null, target null" {
				t.Errorf("%s and %s: %s: %q", c.a, c.b, d.Path, detail)
			}
		}
	}
}
