package record

import (
	"testing"
	"time"
)

func TestTimesHaveOneText(t *testing.T) {
	t.Parallel()
	east := time.FixedZone("", 5*3600)
	for _, c := range []struct {
		kind Kind
		at   time.Time
		want string // "": refused
	}{
		{TimestampTZ, time.Date(2024, 2, 29, 12, 0, 0, 123456789, east), "2024-02-29T07:00:00.123457Z"},
		{Timestamp, time.Date(2024, 2, 29, 12, 0, 0, 500000000, east), "2024-02-29T12:00:00.5"},
		{Date, time.Date(2024, 2, 29, 23, 0, 0, 0, east), "2024-02-29"},
		{TimestampTZ, time.Date(0, 2, 29, 0, 0, 0, 0, time.UTC), "0001-02-29T00:00:00Z BC"},
		{Date, time.Date(-43, 3, 15, 0, 0, 0, 0, time.UTC), "0044-03-15 BC"},
		{Timestamp, time.Date(294276, 12, 31, 23, 59, 59, 999999000, time.UTC), "294276-12-31T23:59:59.999999"},
		{Timestamp, time.Date(294277, 1, 1, 0, 0, 0, 0, time.UTC), ""},
		{Timestamp, time.Date(-4713, 1, 1, 0, 0, 0, 0, time.UTC), ""},
		{Text, time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC), ""},
	} {
		got, err := FormatTime(c.kind, c.at)
		if got != c.want || (err != nil) != (c.want == "") {
			t.Errorf("%s %s: %q, %v; want %q", c.kind, c.at, got, err, c.want)
		}
		if c.want == "" {
			continue
		}
		back, err := ParseTime(c.kind, got)
		if err != nil {
			t.Errorf("%q: %v", got, err)
		}
		if again, err := FormatTime(c.kind, back); again != got || err != nil {
			t.Errorf("%q comes back as %q, %v", got, again, err)
		}
	}
	for _, text := range []string{"infinity", "-infinity", "", "2024-13-01T00:00:00Z", "2024-01-01T00:00:00"} {
		if at, err := ParseTime(TimestampTZ, text); err == nil {
			t.Errorf("%q is taken for %s", text, at)
		}
	}
}

func TestVersionsAreScanned(t *testing.T) {
	t.Parallel()
	want := MakeVersion(1, 2, 3)
	for _, src := range []any{want.String(), []byte(want.String())} {
		var v Version
		if err := v.Scan(src); err != nil || v != want {
			t.Errorf("%T: %s, %v", src, v, err)
		}
	}
	v := want
	if err := v.Scan(nil); err != nil || !v.IsZero() {
		t.Errorf("NULL: %s, %v", v, err)
	}
	for _, src := range []any{int64(1), "no version"} {
		if err := v.Scan(src); err == nil {
			t.Errorf("%v is taken for a version", src)
		}
	}
}
