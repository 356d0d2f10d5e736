package record_test

import (
	"encoding/json"
	"math/big"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stranglerfig/migrator/record"
)

func FuzzCompare(f *testing.F) {
	kinds := []record.Kind{
		record.Int, record.Decimal, record.Float, record.Float32, record.Text, record.Bytes, record.Timestamp,
		record.TimestampTZ, record.UUID, record.JSON, record.Array, record.Other,
	}
	for i, seed := range [][2]string{
		{"1.0", "1e0"},
		{"NaN", "-Infinity"},
		{"2024-02-29T12:00:00.5Z", "0044-03-15 12:00:00+01 BC"},
		{`{"a":[1,{"b":null}],"a":2}`, `{"a":1e2,"é":"\ud83d\ude00"}`},
		{"infinity", "294276-12-31T23:59:59.999999Z"},
		{"é", "e\u0301"},
		{`["1",2]`, `[1,"2"]`},
	} {
		f.Add(uint8(i), seed[0], seed[1])
		f.Add(uint8(9), seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, pick uint8, a, b string) {
		kind := kinds[int(pick)%len(kinds)]
		s := one(kind, "")
		if kind == record.Array {
			s.Fields[0].Element = kinds[int(pick)/len(kinds)%len(kinds)]
		}
		for _, rules := range [][]record.Rule{nil, loosest(s.Fields[0])} {
			c := comparer(t, s, rules...)
			x, y := text(a), text(b)
			found := c.Compare(x, y)
			if back := c.Compare(y, x); !slices.Equal(found, back) {
				t.Errorf("%s: %v one way, %v the other", kind, found, back)
			}
			if c.Equal(x, y) != (len(found) == 0) {
				t.Errorf("%s: Equal and Compare do not agree on %q, %q", kind, a, b)
			}
			if c.Compare(x, x) != nil {
				t.Errorf("%s: %q differs from itself", kind, a)
			}
			for _, d := range found {
				if _, err := record.ParsePointer(d.Path); err != nil || c.Detail(d, x, y) == "" {
					t.Errorf("%s: difference %+v: %v", kind, d, err)
				}
			}
			if kind == record.JSON && !c.Equal(text(a), text("\t"+a+"\n")) && valid(a) {
				t.Errorf("white space around %q makes a difference", a)
			}
		}
		if kind == record.Decimal && short(a) && short(b) {
			p, ok := new(big.Rat).SetString(a)
			q, ok2 := new(big.Rat).SetString(b)
			if ok && ok2 && (p.Cmp(q) == 0) != comparer(t, s).Equal(text(a), text(b)) {
				t.Errorf("%q and %q: arithmetic gives %d", a, b, p.Cmp(q))
			}
		}
	})
}

// valid is stricter than necessary: encoding/json decodes lone surrogates and invalid UTF-8 as
// U+FFFD, which the comparison must not do.
func valid(s string) bool {
	return json.Valid([]byte(s)) && utf8.ValidString(s) && !strings.Contains(strings.ToLower(s), `\ud`)
}

// short limits the reference, which computes with big numbers, to numbers that it can handle.
func short(s string) bool {
	for _, r := range s {
		if (r < '0' || r > '9') && r != '.' && r != '-' {
			return false
		}
	}
	return len(s) < 100
}

func loosest(f record.Field) []record.Rule {
	r := record.Rule{Path: "/f", Show: true}
	switch f.Kind {
	case record.Int, record.Decimal, record.Float, record.Float32:
		r.Tolerance = "0.5"
	case record.Timestamp, record.TimestampTZ:
		r.Precision = record.Precision(3.6e12)
	case record.JSON:
		r.Tolerance, r.Precision = "0.5", record.Precision(3.6e12)
	}
	return []record.Rule{r}
}

func FuzzParsePointer(f *testing.F) {
	for _, s := range []string{"", "/", "/a/b", "/a~1b/~0~01", "x", "/~", "/~2"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		tokens, err := record.ParsePointer(s)
		if err != nil {
			return
		}
		back := ""
		for _, token := range tokens {
			back = record.AppendPointer(back, token)
		}
		if back != s {
			t.Errorf("%q reads as %q, which is written %q", s, tokens, back)
		}
	})
}
