package record_test

import (
	"encoding/json"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/stranglerfig/migrator/record"
)

func TestMakeKey(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		parts []string
		want  record.Key
	}{
		{[]string{"42"}, "42"},
		{[]string{"eu", "42"}, "eu,42"},
		{[]string{""}, ""},
		{[]string{"", ""}, ","},
		{[]string{"a,b"}, "a%2Cb"},
		{[]string{"a,b", "c"}, "a%2Cb,c"},
		{[]string{"100%"}, "100%25"},
		{[]string{"%2C"}, "%252C"},
		{[]string{"a\nb\x7f"}, "a%0Ab%7F"},
		{[]string{"größe 😀"}, "größe 😀"},
		{[]string{"\xff"}, "\xff"},
	} {
		if got := record.MakeKey(c.parts...); got != c.want {
			t.Errorf("MakeKey(%q) = %q, want %q", c.parts, got, c.want)
		}
		if got, err := c.want.Parts(); err != nil || !slices.Equal(got, c.parts) {
			t.Errorf("%q.Parts() = %q, %v, want %q", c.want, got, err, c.parts)
		}
	}
	for _, bad := range []record.Key{"%", "a%2", "%2c", "%GG", "x,%", "%41", "a\nb"} {
		if parts, err := bad.Parts(); err == nil {
			t.Errorf("%q.Parts() = %q: MakeKey can't have made it", bad, parts)
		}
	}
}

func TestKeysInJSON(t *testing.T) {
	t.Parallel()
	seen := map[string]record.Key{}
	for _, key := range []record.Key{"", "42", "a,b", `"quoted"`, `"\xff"`, "\xff", "\xfe", "é", "\xff\xfe", `"`, "\xff\"", "\ufffd"} {
		text, err := json.Marshal(key)
		var back record.Key
		if err == nil {
			err = json.Unmarshal(text, &back)
		}
		if other, taken := seen[string(text)]; err != nil || back != key || taken {
			t.Errorf("%q is written as %s, as %q is: %v", key, text, other, err)
		}
		seen[string(text)] = key
	}
}

func TestKeysAreInjective(t *testing.T) {
	t.Parallel()
	parts := rapid.SliceOfN(rapid.StringOf(rapid.SampledFrom([]rune("a,%2C\n€"))), 1, 3)
	rapid.Check(t, func(t *rapid.T) {
		p, q := parts.Draw(t, "p"), parts.Draw(t, "q")
		k, l := record.MakeKey(p...), record.MakeKey(q...)
		if (k == l) != slices.Equal(p, q) {
			t.Fatalf("%q and %q: keys %q and %q", p, q, k, l)
		}
		if back, err := k.Parts(); err != nil || !slices.Equal(back, p) {
			t.Fatalf("%q came back as %q, %v", p, back, err)
		}
	})
}

func TestKeyOf(t *testing.T) {
	t.Parallel()
	s := &record.Schema{Fields: []record.Field{{Name: "n"}, {Name: "region"}, {Name: "note"}}, Key: []int{1, 0}}
	r := record.Record{record.TextValue("42"), record.TextValue("eu,1"), record.NullValue}
	if k, err := s.KeyOf(r); err != nil || k != "eu%2C1,42" {
		t.Errorf("%q, %v", k, err)
	}
	r[1] = record.NullValue
	if k, err := s.KeyOf(r); err == nil {
		t.Errorf("a key with NULL: %q", k)
	}
	s.Key = []int{2}
	if k, err := s.KeyOf(r); err == nil {
		t.Errorf("a NULL key: %q", k)
	}
	if s.Index("note") != 2 || s.Index("Note") != -1 {
		t.Error("Index")
	}
}

func FuzzKey(f *testing.F) {
	f.Add("a", "b", true)
	f.Add("a,b", "%", true)
	f.Add("\xff\x00", "", false)
	f.Fuzz(func(t *testing.T, a, b string, composite bool) {
		parts := []string{a}
		if composite {
			parts = append(parts, b)
		}
		back, err := record.MakeKey(parts...).Parts()
		if err != nil || !slices.Equal(back, parts) {
			t.Errorf("%q came back as %q, %v", parts, back, err)
		}
		if read, err := record.Key(a).Parts(); err == nil && record.MakeKey(read...) != record.Key(a) {
			t.Errorf("%q reads as %q, which makes %q: one record with two keys", a, read, record.MakeKey(read...))
		}
	})
}
