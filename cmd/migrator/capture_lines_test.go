package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/internal/app"
	"github.com/stranglerfig/migrator/phases"
)

// TestStatusOfCapture: each state of change capture has its line, and each has what a lost slot costs.
func TestStatusOfCapture(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	runs := phases.Capture{Slot: "s", Running: true, Reported: ago(time.Second), Position: "0/1F", Barrier: "1", Rate: 120, HeldBytes: 3 << 20}
	with := func(change func(c *phases.Capture)) *phases.Capture {
		c := runs
		change(&c)
		return &c
	}
	for name, c := range map[string]struct {
		of   *phases.Capture
		want []string
		not  []string
	}{
		"none yet":             {nil, []string{"no process has captured changes yet", "migrator serve"}, nil},
		"lost":                 {with(func(c *phases.Capture) { c.Lost, c.LostAt = "the slot was dropped", ago(2*time.Hour) }), []string{"lost 2h0m ago: the slot was dropped", "try: "}, []string{"holds"}},
		"runs, nothing behind": {&runs, []string{"nothing behind, 120 rows/s, at 0/1F", "holds 3 MiB of WAL"}, []string{"does not run", "given up", "try: ", "throttled"}},
		"before the barrier":   {with(func(c *phases.Capture) { c.Barrier = "" }), []string{"brings changes from the next backfill on"}, []string{"behind,"}},
		"behind":               {with(func(c *phases.Capture) { c.LagBytes, c.Lag, c.Waiting = 5<<20, phases.Duration(3*time.Second), 1 }), []string{"5 MiB, 3s, 1 row behind"}, nil},
		"does not run": {with(func(c *phases.Capture) {
			c.Running, c.Error, c.Reported = false, "the network is down", ago(time.Minute)
		}), []string{"does not run, last seen 1m0s ago: the network is down", "             at 0/1F\n", "holds 3 MiB"}, []string{"fails for", "120 rows", "behind"}},
		"has not reported lately": {with(func(c *phases.Capture) { c.Reported = ago(phases.ReportedWithin + time.Second) }), []string{"does not run, last seen 16s ago"}, nil},
		"stopped after a commit":  {with(func(c *phases.Capture) { c.Running, c.Committed = false, ago(90*time.Second) }), []string{"up to 1m30s behind, at 0/1F"}, []string{"nothing behind"}},
		"never reported":          {&phases.Capture{}, []string{"capture    does not run\n"}, []string{"last seen", "holds"}},
		"the log fills": {with(func(c *phases.Capture) {
			c.LimitBytes, c.LimitBy, c.Full = 10<<30, "capture.max_wal", phases.Duration(90*time.Minute)
		}), []string{"given up at 10 GiB in about 1h30m (capture.max_wal)"}, nil},
		"throttled":              {with(func(c *phases.Capture) { c.Throttled = "the standby's lag" }), []string{"throttled by the standby's lag"}, nil},
		"throttled, and stopped": {with(func(c *phases.Capture) { c.Throttled, c.Running = "the standby's lag", false }), nil, []string{"throttled"}},
		"fails": {with(func(c *phases.Capture) {
			c.Error, c.ErrorKey, c.ErrorSince = "the target refuses a row", "a1b2", ago(time.Minute)
		}), []string{"fails for 1m0s (key a1b2): the target refuses a row"}, []string{"does not run"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, again := range []*app.ReentryCost{nil, {Rows: 2_000_000, Rate: 5000, By: "backfill.rate", Copy: phases.Duration(400 * time.Second), Compare: phases.Duration(time.Minute)}} {
				var out bytes.Buffer
				(&cli{streams: streams{out: &output{Writer: &out}}}).printCapture(c.of, again, now)
				text := out.String()
				want, not := c.want, c.not
				if cost := "if changes are lost: a new slot copies about 2,000,000 rows in about 6m40s, at 5,000 rows/s (backfill.rate), then a full reconcile of about 1m0s\n"; again != nil {
					want = append(want[:len(want):len(want)], cost)
					if !strings.HasSuffix(text, cost) {
						t.Errorf("the cost is not last:\n%s", text)
					}
				} else {
					not = append(not[:len(not):len(not)], "if changes are lost")
				}
				for _, words := range want {
					if !strings.Contains(text, words) {
						t.Errorf("want %q in:\n%s", words, text)
					}
				}
				for _, words := range not {
					if strings.Contains(text, words) {
						t.Errorf("want no %q in:\n%s", words, text)
					}
				}
			}
		})
	}
}
