package humanize

import (
	"testing"
	"time"
)

func TestCounted(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]string{0: "0 warnings", 1: "1 warning", 2: "2 warnings", 1234: "1,234 warnings", -1234567: "-1,234,567 warnings"} {
		if got := Counted(n, "warning"); got != want {
			t.Errorf("%d: %q", n, got)
		}
	}
}

func TestSpan(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		-time.Second: "0s", 1234 * time.Millisecond: "1.2s", 90*time.Second + time.Millisecond: "1m30s",
		2*time.Hour + 29*time.Second: "2h0m", 50 * time.Hour: "2d",
	} {
		if got := Span(d); got != want {
			t.Errorf("%s: %q, want %q", d, got, want)
		}
	}
}

func TestAgo(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	if got := Ago(now, now.Add(-time.Minute)); got != "1m0s ago" {
		t.Error(got)
	}
	if got := Ago(now, time.Time{}); got != "never" {
		t.Error(got)
	}
}
