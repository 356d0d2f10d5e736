package phases

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestParsePercent(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Percent{
		"100": All, "1": 100, "0.5": 50, "0.01": 1, "99.99": 9999, "25.0": 2500, "1e1": 1000, "0.57": 57, "100.00": All,
	} {
		if got, err := ParsePercent(text); err != nil || got != want {
			t.Errorf("ParsePercent(%q) = %d, %v; want %d", text, got, err, want)
		}
	}
	for _, bad := range []string{"", "0", "-1", "100.01", "101", "0.001", "1.005", "NaN", "Inf", "50%", "x", "1,5", " 5"} {
		if got, err := ParsePercent(bad); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("%q", bad)) {
			t.Errorf("ParsePercent(%q) = %d, %v", bad, got, err)
		}
	}
}

func TestPercentRoundTrip(t *testing.T) {
	t.Parallel()
	for p := Percent(1); p <= All; p++ {
		if back, err := ParsePercent(p.String()); err != nil || back != p {
			t.Fatalf("%d is written %q, which reads as %d, %v", p, p, back, err)
		}
		raw, err := json.Marshal(p)
		var back Percent
		if err != nil || json.Unmarshal(raw, &back) != nil || back != p {
			t.Fatalf("%d is %s in JSON, which reads as %d", p, raw, back)
		}
	}
	var p Percent = 7
	if err := json.Unmarshal([]byte("0"), &p); err != nil || p != 0 {
		t.Errorf("0 in JSON: %d, %v", p, err)
	}
	if err := json.Unmarshal([]byte("101"), &p); err == nil {
		t.Errorf("101 in JSON: %d", p)
	}
}

func TestTakesIsMonotonicInTheShare(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		hash := rapid.Uint64().Draw(t, "hash")
		p, q := Percent(rapid.IntRange(0, int(All)).Draw(t, "p")), Percent(rapid.IntRange(0, int(All)).Draw(t, "q"))
		if p <= q && p.Takes(hash) && !q.Takes(hash) {
			t.Fatalf("%s takes %d, %s does not", p, hash, q)
		}
		if Percent(0).Takes(hash) || !All.Takes(hash) {
			t.Fatal("none takes it, or all do not")
		}
	})
	taken := 0
	for h := range uint64(All) {
		if Percent(2500).Takes(h) {
			taken++
		}
	}
	if taken != 2500 {
		t.Errorf("a quarter of %d is %d", All, taken)
	}
}

func TestParseDuration(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	for text, want := range map[string]time.Duration{
		"30d": 30 * day, "1d12h": 36 * time.Hour, "36h": 36 * time.Hour, "0d": 0, "0": 0, "0s": 0, "1.5h": 90 * time.Minute,
		"200ms": 200 * time.Millisecond, "1d0.5s": day + 500*time.Millisecond, "-5s": -5 * time.Second, "106751d": 106751 * day,
	} {
		if got, err := ParseDuration(text); err != nil || time.Duration(got) != want {
			t.Errorf("ParseDuration(%q) = %s, %v; want %s", text, got, err, want)
		}
	}
	for _, bad := range []string{
		"", "d", "5", "1.5d", "-1d", "+1d", "01d", "1dd", "1d-5h", "1d+5h", "1h1d", "1d 2h", " 1d", "106752d", "106751d24h",
		"9223372036854775808d", "one day", "1D",
	} {
		if got, err := ParseDuration(bad); err == nil || !strings.Contains(err.Error(), "30d, 36h or 1d12h") {
			t.Errorf("ParseDuration(%q) = %s, %v", bad, got, err)
		}
	}
}

func TestDurationText(t *testing.T) {
	t.Parallel()
	for want, d := range map[string]time.Duration{
		"30d": 720 * time.Hour, "36h": 36 * time.Hour, "1d": 24 * time.Hour, "1h30m": 90 * time.Minute, "10m": 10 * time.Minute,
		"20h": 20 * time.Hour, "1h0m30s": time.Hour + 30*time.Second, "0s": 0, "200ms": 200 * time.Millisecond, "10s": 10 * time.Second,
		"100h": 100 * time.Hour,
	} {
		if got := Duration(d).String(); got != want {
			t.Errorf("%s is written %q, want %q", d, got, want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		unit := rapid.SampledFrom([]int64{1, int64(time.Millisecond), int64(time.Second), int64(time.Minute), int64(time.Hour), int64(24 * time.Hour)}).Draw(t, "unit")
		d := Duration(rapid.Int64Range(-math.MaxInt64/unit, math.MaxInt64/unit).Draw(t, "n") * unit)
		if back, err := ParseDuration(d.String()); err != nil || back != d {
			t.Fatalf("%d is written %q, which reads as %d, %v", d, d, back, err)
		}
		text, _ := d.MarshalText()
		var back Duration
		if err := back.UnmarshalText(text); err != nil || back != d {
			t.Fatalf("%s: %v", text, err)
		}
	})
}

func FuzzParseDuration(f *testing.F) {
	for _, s := range []string{"30d", "1d12h", "106751d23h", "-5s", "1d-5h"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, err := ParseDuration(s)
		if err != nil {
			return
		}
		if back, err := ParseDuration(d.String()); err != nil || back != d {
			t.Errorf("%q reads as %d, written %q, which reads as %d, %v", s, d, d, back, err)
		}
		if strings.Contains(s, "d") && d < 0 {
			t.Errorf("%q reads as %s", s, d)
		}
	})
}

func FuzzParsePercent(f *testing.F) {
	for _, s := range []string{"25", "0.5", "NaN", "1e-2", "100.001"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if p, err := ParsePercent(s); err == nil && (p == 0 || p > All) {
			t.Errorf("%q reads as %d", s, p)
		}
	})
}

func TestSettingsValidate(t *testing.T) {
	t.Parallel()
	if err := DefaultSettings().Validate(); err != nil {
		t.Error(err)
	}
	for _, c := range []struct {
		name   string
		change func(*Settings)
		want   []string
	}{
		{"no steps", func(s *Settings) { s.Cutover.Steps = nil }, []string{"phases.cutover.steps: the last step must be 100"}},
		{"not to the end", func(s *Settings) { s.DualRead.Steps = []Percent{100} }, []string{"phases.dual_read.steps: the last step must be 100"}},
		{"falling", func(s *Settings) { s.Cutover.Steps = []Percent{500, 100, All} }, []string{"phases.cutover.steps[1]: 1 after 5: steps must rise"}},
		{"twice", func(s *Settings) { s.Cutover.Steps = []Percent{500, 500, All} }, []string{"phases.cutover.steps[1]: 5 after 5"}},
		{"nothing", func(s *Settings) { s.Cutover.Steps = []Percent{0, All} }, []string{"phases.cutover.steps[0]: want a percentage above 0"}},
		{"too much", func(s *Settings) { s.Cutover.Steps = []Percent{All, All + 1} }, []string{"phases.cutover.steps[1]: want a percentage above 0 and up to 100"}},
		{"negative", func(s *Settings) { s.Grace.For, s.DualRead.Over = -1, -1 }, []string{"phases.grace.for: must not be negative", "phases.dual_read.over: must not be negative"}},
		{"an approval for a passing phase", func(s *Settings) { s.Approval.For = []Phase{Fenced} }, []string{`phases.approval.for[0]: unknown phase "fenced"`}},
		{"an approval that expires at once", func(s *Settings) { s.Approval.Expires = 0 }, []string{"phases.approval.expires"}},
	} {
		s := DefaultSettings()
		c.change(&s)
		err := s.Validate()
		for _, want := range c.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want %q", c.name, err, want)
			}
		}
	}
	s := DefaultSettings()
	s.Approval = Approver{}
	s.ShadowWrite.For, s.Retain.For = 0, 0
	if err := s.Validate(); err != nil {
		t.Errorf("no approvals, no soak time: %v", err)
	}
	if got := (Ramp{Steps: []Percent{1, 2, 3, All}, Over: Duration(4 * time.Hour)}).PerStep(); got != time.Hour {
		t.Errorf("each of four steps of 4 h takes %s", got)
	}
	if (Ramp{}).PerStep() != 0 {
		t.Error("a ramp without steps takes time")
	}
}
