package record_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stranglerfig/migrator/record"
)

// one is a schema of a single field called "f".
func one(kind, element record.Kind) *record.Schema {
	return &record.Schema{Fields: []record.Field{{Name: "f", Target: "f", Kind: kind, Element: element}}}
}

func comparer(t testing.TB, s *record.Schema, rules ...record.Rule) *record.Comparer {
	t.Helper()
	c, err := record.NewComparer(s, rules)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func text(s string) record.Record { return record.Record{record.TextValue(s)} }

// show formats differences as "class path".
func show(found []record.Difference) string {
	var lines []string
	for _, d := range found {
		lines = append(lines, string(d.Class)+" "+d.Path)
	}
	return strings.Join(lines, "; ")
}

func TestCompareByKind(t *testing.T) {
	t.Parallel()
	const same = ""
	for _, c := range []struct {
		kind, element record.Kind
		a, b          string
		want          string
	}{
		{record.Bool, "", "true", "true", same},
		{record.Bool, "", "true", "false", "value /f"},
		{record.Int, "", "42", "42", same},
		{record.Int, "", "42", "42.0", "value /f"},
		{record.Int, "", "9007199254740993", "9007199254740992", "value /f"},

		{record.Decimal, "", "1.0", "1.00", same},
		{record.Decimal, "", "1.0", "1.01", "value /f"},
		{record.Decimal, "", "-1.5", "1.5", "value /f"},
		{record.Decimal, "", "100", "1e2", same},
		{record.Decimal, "", "0.001", "1E-3", same},
		{record.Decimal, "", "12e-1", "1.20", same},
		{record.Decimal, "", "0010", "10", same},
		{record.Decimal, "", "10", "1", "value /f"},
		{record.Decimal, "", "101", "1.01", "value /f"},
		{record.Decimal, "", "0", "-0.000", same},
		{record.Decimal, "", "0e99", "0", same},
		{record.Decimal, "", ".5", "0.5", same},
		{record.Decimal, "", "5.", "5", same},
		{record.Decimal, "", "+5", "5", same},
		{record.Decimal, "", "NaN", "nan", same},
		{record.Decimal, "", "NaN", "0", "value /f"},
		{record.Decimal, "", "Infinity", "inf", same},
		{record.Decimal, "", "Infinity", "-Infinity", "value /f"},
		{record.Decimal, "", "Infinity", "1e999999999", "value /f"},
		{record.Decimal, "", "1e999999999", "10e999999998", same},
		{record.Decimal, "", "1e999999999999999999999", "10e999999999999999999998", "value /f"}, // exponent out of range: as bytes
		{record.Decimal, "", "12345678901234567890123456789.0123456789", "12345678901234567890123456789.01234567890", same},
		{record.Decimal, "", "12345678901234567890123456789.0123456789", "12345678901234567890123456789.0123456788", "value /f"},
		{record.Decimal, "", "", "0", "value /f"},
		{record.Decimal, "", "1", "one", "value /f"},
		{record.Decimal, "", ".", "0", "value /f"},
		{record.Decimal, "", "1e", "1", "value /f"},
		{record.Decimal, "", "1e+-0", "1", "value /f"},
		{record.Decimal, "", "--1", "1", "value /f"},

		{record.Float, "", "0.1", "1e-1", same},
		{record.Float, "", "0.1", "0.10000000000000001", same}, // the same float64
		{record.Float, "", "0.1", "0.1000000000000001", "value /f"},
		{record.Float, "", "NaN", "nan", same},
		{record.Float, "", "-0", "0", same},
		{record.Float, "", "Infinity", "inf", same},
		{record.Float, "", "1e308", "1e309", "value /f"},
		{record.Float32, "", "0.1", "0.10000000149011612", same},
		{record.Float, "", "0.1", "0.10000000149011612", "value /f"},

		{record.Text, "", "a", "A", "value /f"},
		{record.Text, "", "", " ", "value /f"},
		{record.Text, "", "caf\u00e9", "cafe\u0301", "unicode /f"},
		{record.Text, "", "\xff", "\ufffd", "value /f"},
		{record.Other, "", "caf\u00e9", "cafe\u0301", "unicode /f"},
		{record.Bytes, "", "\u00e9", "e\u0301", "value /f"},
		{record.Bytes, "", "\xff\x00", "\xff\x00", same},
		{record.UUID, "", "0b1e6e2e-43f5-4c3a-9d5c-1c1a5f2a7f10", "0B1E6E2E-43F5-4C3A-9D5C-1C1A5F2A7F10", same},
		{record.UUID, "", "0b1e6e2e-43f5-4c3a-9d5c-1c1a5f2a7f10", "0b1e6e2e-43f5-4c3a-9d5c-1c1a5f2a7f11", "value /f"},
		{record.Date, "", "2024-02-29", "2024-03-01", "value /f"},
		{record.Interval, "", "P1D", "PT24H", "value /f"},

		{record.TimestampTZ, "", "2024-02-29T12:00:00Z", "2024-02-29T14:00:00+02:00", same},
		{record.TimestampTZ, "", "2024-02-29T12:00:00Z", "2024-02-29 14:00:00+02", same},
		{record.TimestampTZ, "", "2024-02-29T12:00:00Z", "2024-02-29T06:30:00.000-0530", same},
		{record.TimestampTZ, "", "2024-02-29T12:00:00.5Z", "2024-02-29T12:00:00.500000Z", same},
		{record.TimestampTZ, "", "2024-02-29T12:00:00.123456Z", "2024-02-29T12:00:00.123456999Z", same}, // beyond the microsecond
		{record.TimestampTZ, "", "2024-02-29T12:00:00.123456Z", "2024-02-29T12:00:00.123457Z", "value /f"},
		{record.TimestampTZ, "", "2024-02-29T12:00:00Z", "2024-02-29T12:00:00", "value /f"}, // unknown zone
		{record.TimestampTZ, "", "1883-11-18T12:03:58Z", "1883-11-18T07:07:56-04:56:02", same},
		{record.TimestampTZ, "", "0044-03-15T12:00:00Z BC", "0044-03-15T13:00:00+01:00 BC", same},
		{record.TimestampTZ, "", "0044-03-15T12:00:00Z BC", "0044-03-15T12:00:00Z", "value /f"},
		{record.TimestampTZ, "", "0001-01-01T00:00:00+01:00", "0001-12-31T23:00:00Z BC", same},
		{record.TimestampTZ, "", "294276-12-31T23:59:59.999999Z", "294276-12-31T22:59:59.999999-01:00", same},
		{record.TimestampTZ, "", "infinity", "Infinity", same},
		{record.TimestampTZ, "", "infinity", "-infinity", "value /f"},
		{record.TimestampTZ, "", "2023-02-29T00:00:00Z", "2023-03-01T00:00:00Z", "value /f"}, // no such day
		{record.Timestamp, "", "2024-02-29T12:00:00", "2024-02-29 12:00:00.000", same},
		{record.Timestamp, "", "2024-02-29T12:00:00", "2024-02-29T12:00:00Z", same},
		{record.Timestamp, "", "2024-02-29T12:00:00", "2024-02-29T12:00:01", "value /f"},
		{record.Timestamp, "", "2024-02-29T12:00:00", "2024-02-29T12:00", "value /f"},

		{record.JSON, "", `{"a":1,"b":[true,null]}`, `{ "b" : [ true , null ], "a" : 1.0 }`, same},
		{record.JSON, "", `{"a":1e2}`, `{"a":100}`, same},
		{record.JSON, "", `{"a":9007199254740993}`, `{"a":9007199254740992}`, "value /f/a"},
		{record.JSON, "", `{"a":1,"a":2}`, `{"a":2}`, same},
		{record.JSON, "", `{"a":1,"a":2}`, `{"a":1}`, "value /f/a"},
		{record.JSON, "", `"\u00e9"`, `"é"`, same},
		{record.JSON, "", `"\ud83d\ude00"`, `"😀"`, same},
		{record.JSON, "", `"é"`, `"e\u0301"`, "unicode /f"},
		{record.JSON, "", `{"é":1}`, `{"e\u0301":1}`, "unicode /f/e\u0301; unicode /f/\u00e9"},
		{record.JSON, "", `{"a":null}`, `{}`, "missing /f/a"},
		{record.JSON, "", `{"a":null}`, `{"a":0}`, "null /f/a"},
		{record.JSON, "", `{"a":"1"}`, `{"a":1}`, "type /f/a"},
		{record.JSON, "", `{"a":{}}`, `{"a":[]}`, "type /f/a"},
		{record.JSON, "", `{"a":true}`, `{"a":false}`, "value /f/a"},
		{record.JSON, "", `{"a":""}`, `{"a":null}`, "null /f/a"},
		{record.JSON, "", `[1,2,3]`, `[1,3,2]`, "value /f/1; value /f/2"},
		{record.JSON, "", `[1,2,3]`, `[1]`, "missing /f/1; missing /f/2"},
		{record.JSON, "", `{"a/b":{"m~n":1}}`, `{"a/b":{"m~n":2}}`, "value /f/a~1b/m~0n"},
		{record.JSON, "", `{"":1}`, `{"":2}`, "value /f/"},
		{record.JSON, "", `{"a":1}`, `{"a":1`, "value /f"},
		{record.JSON, "", `{"a":1} `, `{"a":1} x`, "value /f"},
		{record.JSON, "", "\"\xff\"", "\"\ufffd\"", "value /f"},
		{record.JSON, "", `"\ud800"`, `"\ufffd"`, "value /f"},
		{record.JSON, "", `"\u0000"`, "\"\\u0000\" ", same},
		{record.JSON, "", strings.Repeat("[", 20000), strings.Repeat("[", 20001), "value /f"},

		{record.Array, record.Text, `["a","b"]`, `["a", "b"]`, same},
		{record.Array, record.Text, `["a","b"]`, `["b","a"]`, "value /f/0; value /f/1"},
		{record.Array, record.Text, `["a",null]`, `["a",""]`, "null /f/1"},
		{record.Array, record.Text, `["1"]`, `[1]`, "type /f/0"},
		{record.Array, record.Decimal, `[1.50,2]`, `[1.5,2.000]`, same},
		{record.Array, record.Decimal, `["NaN",1]`, `["NaN","1.0"]`, same},
		{record.Array, record.Float, `[0.1]`, `[0.10000000000000001]`, same},
		{record.Array, record.TimestampTZ, `["2024-02-29T12:00:00Z"]`, `["2024-02-29T13:00:00+01:00"]`, same},
		{record.Array, record.Int, `[[1,2],[3,4]]`, `[[1,2],[3,5]]`, "value /f/1/1"},
		{record.Array, record.JSON, `[{"a":1.0}]`, `[{"a":1}]`, same},
		{record.Array, "", `[1.0]`, `[1]`, same},
	} {
		t.Run(fmt.Sprintf("%s %.40s %.40s", c.kind, c.a, c.b), func(t *testing.T) {
			t.Parallel()
			cmp := comparer(t, one(c.kind, c.element))
			if got := show(cmp.Compare(text(c.a), text(c.b))); got != c.want {
				t.Errorf("Compare(%q, %q) = %q, want %q", c.a, c.b, got, c.want)
			}
			if got := show(cmp.Compare(text(c.b), text(c.a))); got != c.want {
				t.Errorf("the other way round: %q, want %q", got, c.want)
			}
			if got := cmp.Equal(text(c.a), text(c.b)); got != (c.want == same) {
				t.Errorf("Equal = %v", got)
			}
		})
	}
}

func TestNullMissingAndEmptyDiffer(t *testing.T) {
	t.Parallel()
	states := map[string]record.Value{"missing": {}, "null": record.NullValue, "empty": record.TextValue("")}
	want := map[string]string{
		"missing missing": "", "null null": "", "empty empty": "",
		"missing null": "missing /f", "null missing": "missing /f",
		"missing empty": "missing /f", "empty missing": "missing /f",
		"null empty": "null /f", "empty null": "null /f",
	}
	for _, kind := range []record.Kind{record.Text, record.JSON, record.Decimal, record.Array} {
		c := comparer(t, one(kind, ""))
		for a, x := range states {
			for b, y := range states {
				if got := show(c.Compare(record.Record{x}, record.Record{y})); got != want[a+" "+b] {
					t.Errorf("%s: %s beside %s: %q, want %q", kind, a, b, got, want[a+" "+b])
				}
			}
		}
		if got := show(c.Compare(record.Record{}, text(""))); got != "missing /f" {
			t.Errorf("%s: a record without its last value: %q", kind, got)
		}
	}
}

var shop = &record.Schema{Fields: []record.Field{
	{Name: "id", Kind: record.Int},
	{Name: "price", Kind: record.Decimal},
	{Name: "seen", Kind: record.TimestampTZ},
	{Name: "a/b", Kind: record.Text},
	{Name: "doc", Kind: record.JSON},
	{Name: "tags", Kind: record.Array, Element: record.Text},
	{Name: "marks", Kind: record.Array, Element: record.Float},
	{Name: "weight", Kind: record.Float},
}, Key: []int{0}}

func shopRecord(texts ...string) record.Record {
	r := make(record.Record, len(shop.Fields))
	for i := range r {
		r[i] = record.TextValue(texts[i])
	}
	return r
}

func TestRules(t *testing.T) {
	t.Parallel()
	base := []string{"7", "12.50", "2024-02-29T12:00:00.123456Z", "x", `{"a":{"n":1,"t":"2024-01-01T00:00:00.001Z"},"l":[{"p":1.5},2]}`, `["u","v"]`, `[1,2.5]`, "0.5"}
	for _, c := range []struct {
		name   string
		rules  []record.Rule
		change map[int]string
		want   string
	}{
		{"ignore a field", []record.Rule{{Path: "/a~1b", Ignore: "noise"}}, map[int]string{3: "y"}, ""},
		{"not another one", []record.Rule{{Path: "/a~1b", Ignore: "noise"}}, map[int]string{1: "1"}, "value /price"},
		{"within tolerance", []record.Rule{{Path: "/price", Tolerance: "0.01"}}, map[int]string{1: "12.51"}, ""},
		{"exactly at it, where floats would miss", []record.Rule{{Path: "/weight", Tolerance: "0.1"}}, map[int]string{7: "0.6"}, ""},
		{"beyond it", []record.Rule{{Path: "/price", Tolerance: "0.01"}}, map[int]string{1: "12.5100000000000000000000001"}, "value /price"},
		{"NaN is within nothing", []record.Rule{{Path: "/price", Tolerance: "1e9"}}, map[int]string{1: "NaN"}, "value /price"},
		{"Infinity is within nothing", []record.Rule{{Path: "/price", Tolerance: "1e9"}}, map[int]string{1: "Infinity"}, "value /price"},
		{"an exponent without bounds", []record.Rule{{Path: "/price", Tolerance: "1"}}, map[int]string{1: "1e999999999"}, "value /price"},
		{"tolerance of integers", []record.Rule{{Path: "/id", Tolerance: "2"}}, map[int]string{0: "9"}, ""},
		{"precision", []record.Rule{{Path: "/seen", Precision: record.Precision(1e6)}}, map[int]string{2: "2024-02-29T13:00:00.123999+01:00"}, ""},
		{"precision cuts, it does not round", []record.Rule{{Path: "/seen", Precision: record.Precision(1e6)}}, map[int]string{2: "2024-02-29T12:00:00.124Z"}, "value /seen"},
		{"ignore a member", []record.Rule{{Path: "/doc/a/n", Ignore: "counter"}}, map[int]string{4: `{"a":{"n":"?","t":"2024-01-01T00:00:00.001Z"},"l":[{"p":1.5},2]}`}, ""},
		{"ignore a member that is gone", []record.Rule{{Path: "/doc/a", Ignore: "later"}}, map[int]string{4: `{"l":[{"p":1.5},2]}`}, ""},
		{"tolerate one number in a list", []record.Rule{{Path: "/doc/l/0/p", Tolerance: "0.5"}}, map[int]string{4: `{"a":{"n":1,"t":"2024-01-01T00:00:00.001Z"},"l":[{"p":2.0},2.1]}`}, "value /doc/l/1"},
		{"tolerate all numbers below", []record.Rule{{Path: "/doc", Tolerance: "0.5"}}, map[int]string{4: `{"a":{"n":1.5,"t":"2024-01-01T00:00:00.001Z"},"l":[{"p":2},2.1]}`}, ""},
		{"a deeper rule overrides", []record.Rule{{Path: "/doc/l/1", Tolerance: "0"}, {Path: "/doc", Tolerance: "0.5"}}, map[int]string{4: `{"a":{"n":1,"t":"2024-01-01T00:00:00.001Z"},"l":[{"p":2},2.1]}`}, "value /doc/l/1"},
		{"precision of a time in a document", []record.Rule{{Path: "/doc/a/t", Precision: record.Precision(1e9)}}, map[int]string{4: `{"a":{"n":1,"t":"2024-01-01T00:00:00Z"},"l":[{"p":1.5},2]}`}, ""},
		{"a precision leaves other texts alone", []record.Rule{{Path: "/doc", Precision: record.Precision(1e9)}}, map[int]string{4: `{"a":{"n":1,"t":"soon"},"l":[{"p":1.5},2]}`}, "value /doc/a/t"},
		{"an element of an array", []record.Rule{{Path: "/tags/1", Ignore: "free text"}}, map[int]string{5: `["u","?"]`}, ""},
		{"all elements of an array", []record.Rule{{Path: "/marks", Tolerance: "0.25"}}, map[int]string{6: `[1.25,2.75]`}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			cmp := comparer(t, shop, c.rules...)
			changed := slices.Clone(base)
			for i, v := range c.change {
				changed[i] = v
			}
			if got := show(cmp.Compare(shopRecord(base...), shopRecord(changed...))); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
			if len(comparer(t, shop).Compare(shopRecord(base...), shopRecord(changed...))) == 0 {
				t.Error("the case proves nothing: without rules the records are the same")
			}
		})
	}
}

func TestInvalidRules(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		rule record.Rule
		want string
	}{
		{record.Rule{Path: "/prise", Ignore: "x"}, `there is no field "prise"; the fields are id, price, seen, a/b, doc, tags, marks, weight`},
		{record.Rule{Path: "/a/b", Ignore: "x"}, `there is no field "a"`},
		{record.Rule{Path: "price", Ignore: "x"}, `path "price" must begin with a slash: "/price"`},
		{record.Rule{Path: "a/b", Ignore: "x"}, `path "a/b" must begin with a slash: "/a~1b"`},
		{record.Rule{Path: "/a~b", Ignore: "x"}, `~0`},
		{record.Rule{Path: "/a~0~", Ignore: "x"}, `~0`},
		{record.Rule{Path: "", Ignore: "x"}, `path is missing`},
		{record.Rule{Path: "/price"}, `the rule has no effect`},
		{record.Rule{Path: "/price", Ignore: " "}, `must give the reason`},
		{record.Rule{Path: "/price", Ignore: "x", Show: true}, `can't have another rule`},
		{record.Rule{Path: "/price/cents", Ignore: "x"}, `field "price" is decimal; only json and array fields have members`},
		{record.Rule{Path: "/tags/first", Ignore: "x"}, `want the number of an element`},
		{record.Rule{Path: "/tags/01", Ignore: "x"}, `want the number of an element`},
		{record.Rule{Path: "/price", Tolerance: "-1"}, `tolerance "-1"`},
		{record.Rule{Path: "/price", Tolerance: "1 %"}, `tolerance "1 %"`},
		{record.Rule{Path: "/price", Tolerance: "NaN"}, `tolerance "NaN"`},
		{record.Rule{Path: "/seen", Tolerance: "1"}, `tolerance is for numbers, field "seen" is timestamptz`},
		{record.Rule{Path: "/tags", Tolerance: "1"}, `tolerance is for numbers, field "tags" is text`},
		{record.Rule{Path: "/price", Precision: record.Precision(1e6)}, `precision is for timestamps, field "price" is decimal`},
		{record.Rule{Path: "/seen", Precision: 1}, `a microsecond or more`},
		{record.Rule{Path: "/seen", Precision: -1e6}, `a microsecond or more`},
	} {
		_, err := record.NewComparer(shop, []record.Rule{c.rule})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: error %v, want %q", c.rule, err, c.want)
		}
	}
	_, err := record.NewComparer(shop, []record.Rule{{Path: "/id", Show: true}, {Path: "/id", Tolerance: "1"}, {Path: "/nope", Show: true}})
	if err == nil || !strings.Contains(err.Error(), `"/id": there are two rules`) || !strings.Contains(err.Error(), `"nope"`) {
		t.Errorf("want all that is wrong together, got %v", err)
	}
}

func TestDifferencesInsideAFieldAreBounded(t *testing.T) {
	t.Parallel()
	list := func(v string) string { return "[" + strings.TrimSuffix(strings.Repeat(v+",", 1000), ",") + "]" }
	c := comparer(t, one(record.JSON, ""))
	found := c.Compare(text(list("1")), text(list("2")))
	if len(found) != 32 || found[31].Path != "/f/31" {
		t.Errorf("%d differences, the last one %+v", len(found), found[len(found)-1])
	}
}

func TestEqualBytesDoNotAllocate(t *testing.T) {
	r := shopRecord("7", "12.50", "2024-02-29T12:00:00Z", "x", `{"a":1}`, `["u"]`, `[1]`, "0.5")
	again := r.Clone()
	c := comparer(t, shop, record.Rule{Path: "/price", Tolerance: "0.1"}, record.Rule{Path: "/doc/a", Show: true})
	if n := testing.AllocsPerRun(100, func() {
		if c.Compare(r, again) != nil || !c.Equal(r, again) {
			t.Fatal("they differ")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
