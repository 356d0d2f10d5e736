package record_test

import (
	"bytes"
	"encoding/json"
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/stranglerfig/migrator/record"
)

func anyVersion() *rapid.Generator[record.Version] {
	return rapid.Custom(func(t *rapid.T) record.Version {
		return record.MakeVersion(
			rapid.OneOf(rapid.Uint32Range(0, 3), rapid.Uint32()).Draw(t, "era"),
			rapid.OneOf(rapid.Uint32Range(0, 3), rapid.Uint32()).Draw(t, "high"),
			rapid.OneOf(rapid.Uint64Range(0, 3), rapid.Uint64()).Draw(t, "low"))
	})
}

func TestVersionText(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		v    record.Version
		text string
	}{
		{record.Version{}, ""},
		{record.MakeVersion(0, 0, 1), "00000000000000000000000000000001"},
		{record.MakeVersion(1, 2, 0x16B3748), "0000000100000002" + "00000000016b3748"},
		{record.MakeVersion(math.MaxUint32, math.MaxUint32, math.MaxUint64), strings.Repeat("f", 32)},
	} {
		if got := c.v.String(); got != c.text {
			t.Errorf("%+v: %q, want %q", c.v, got, c.text)
		}
		if got, err := record.ParseVersion(c.text); err != nil || got != c.v {
			t.Errorf("ParseVersion(%q) = %+v, %v", c.text, got, err)
		}
	}
	if v, err := record.ParseVersion(strings.Repeat("0", 32)); err != nil || !v.IsZero() {
		t.Errorf("32 zeros: %+v, %v", v, err)
	}
	for _, bad := range []string{"0", strings.Repeat("0", 31), strings.Repeat("0", 33), strings.Repeat("g", 32), " " + strings.Repeat("0", 31), "0/16B3748"} {
		if v, err := record.ParseVersion(bad); err == nil {
			t.Errorf("ParseVersion(%q) = %+v", bad, v)
		}
	}
}

func TestVersionsOrderLikeTheirTexts(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		v, w := anyVersion().Draw(t, "v"), anyVersion().Draw(t, "w")
		texts := bytes.Compare(v.AppendText32(nil), w.AppendText32(nil))
		if v.Compare(w) != texts || v.NewerThan(w) != (texts > 0) || w.Compare(v) != -texts {
			t.Fatalf("%s, %s: versions %d, texts %d", v, w, v.Compare(w), texts)
		}
		if (texts == 0) != (v == w) {
			t.Fatal("two versions with one text")
		}
		if m := v.Max(w); v.NewerThan(m) || w.NewerThan(m) || m != v && m != w {
			t.Fatalf("Max(%s, %s) = %s", v, w, m)
		}
		raw, err := json.Marshal(v)
		var back record.Version
		if err != nil || json.Unmarshal(raw, &back) != nil || back != v {
			t.Fatalf("by way of JSON %s became %s", v, back)
		}
	})
}

func TestNextVersionGrows(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		v, era := anyVersion().Draw(t, "v"), rapid.Uint32Range(1, 4).Draw(t, "era")
		next, err := v.Next(era)
		full := v == record.MakeVersion(era, math.MaxUint32, math.MaxUint64)
		switch {
		case v.Era() > era:
			if err == nil {
				t.Fatalf("%s.Next(%d) = %s", v, era, next)
			}
		case full:
			if err == nil {
				t.Fatalf("after the last version came %s", next)
			}
		case err != nil || !next.NewerThan(v) || next.Era() != era:
			t.Fatalf("%s.Next(%d) = %s, %v", v, era, next, err)
		}
	})
}

func TestNextVersionCarries(t *testing.T) {
	t.Parallel()
	v := record.MakeVersion(2, 5, math.MaxUint64)
	if next, err := v.Next(2); err != nil || next != record.MakeVersion(2, 6, 0) {
		t.Errorf("%+v, %v", next, err)
	}
	last := record.MakeVersion(2, math.MaxUint32, math.MaxUint64)
	if next, err := last.Next(2); err == nil {
		t.Errorf("after the last version came %s", next)
	}
}

func FuzzParseVersion(f *testing.F) {
	f.Add("", "")
	f.Add("00000001000000020000000001ABCDEF", "00000001000000020000000001abcdee")
	f.Fuzz(func(t *testing.T, s, u string) {
		v, err := record.ParseVersion(s)
		if err != nil {
			return
		}
		if got := string(v.AppendText32(nil)); s != "" && got != strings.ToLower(s) {
			t.Errorf("%q became %q", s, got)
		}
		w, err := record.ParseVersion(u)
		if err == nil && v.Compare(w) != bytes.Compare(v.AppendText32(nil), w.AppendText32(nil)) {
			t.Errorf("%q, %q: the order is not that of the texts", s, u)
		}
	})
}

func TestVersionBound(t *testing.T) {
	t.Parallel()
	highest := record.MakeVersion(2, 1, 0xab)
	c := record.NewVersionBound(highest)
	text := func(v record.Version) []byte { return v.AppendText32(nil) }
	above, below := record.MakeVersion(2, 1, 0xac), record.MakeVersion(2, 1, 0xaa)
	for _, one := range []struct {
		text   []byte
		covers bool
	}{
		{text(above), false},
		{text(highest), true},
		{text(below), true},
		{text(below), true},
		{text(above), false},
		{text(record.MakeVersion(3, 0, 0)), false},
		{text(record.MakeVersion(1, 0, 1<<60)), true},
		{nil, false},
		{text(below)[:31], false},
		{append(text(below), '0'), false},
		{bytes.ToUpper(text(below)), false},
		{[]byte("0000000100000001000000000000000g"), false},
	} {
		if got := c.Includes(one.text); got != one.covers {
			t.Errorf("%q: %v", one.text, got)
		}
	}
}
