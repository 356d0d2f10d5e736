package judge

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/dual/telemetry"
)

// traffic is a legacy with an application and writers that bypass it, second by second.
type traffic struct {
	seconds        int
	app, past      func(second int) int64 // rows a second
	failed         float64                // of the application's rows: counted by legacy, and reported as failed
	unseen         float64                // the same, and not reported: made again inside the write
	window         int                    // seconds of an instance's windows
	late           int                    // seconds until legacy counts
	every          int                    // seconds between samples
	finding, since int                    // what is wanted: at which second at the latest; 0: none
}

// run makes the samples and the telemetry as of each second, and returns the first finding.
func (c traffic) run() (at int, found Bypassed) {
	began := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	second := func(n int) time.Time { return began.Add(time.Duration(n) * time.Second) }
	counted := make([]int64, c.seconds+1)
	var samples []CountedChanges
	type report struct {
		arrives int
		telemetry.Bucket
	}
	var reports []report
	var open, total int64
	phase := 7 // windows don't end when samples are taken
	for n := range c.seconds {
		rows := c.app(n)
		open += rows + int64(float64(rows)*c.failed)
		total += rows + int64(float64(rows)*(c.failed+c.unseen)) + c.past(n)
		counted[n+1] = total
		if (n+phase)%c.window == 0 {
			end := second(n + 1)
			b := telemetry.Bucket{Began: end.Add(-time.Microsecond).Truncate(10 * time.Second)}
			b.Ended = b.Began.Add(10 * time.Second)
			b.Counts = []telemetry.Count{{Series: telemetry.Series{Operation: telemetry.Change, Store: telemetry.Legacy, Role: telemetry.Serving, Outcome: telemetry.OK}, N: uint64(open)}}
			reports, open = append(reports, report{n + 3, b}), 0
		}
		if n%c.every != 0 {
			continue
		}
		samples = append(samples, CountedChanges{At: second(n), Changes: counted[max(n-c.late, 0)]})
		var buckets []telemetry.Bucket
		for _, r := range reports {
			if r.arrives <= n {
				buckets = append(buckets, r.Bucket)
			}
		}
		if found, ok := Bypass(samples, buckets, 0.1, second(n).Add(-BypassSettle)); ok {
			return n, found
		}
	}
	return 0, Bypassed{}
}

func steady(rows int64) func(int) int64 { return func(int) int64 { return rows } }

func during(rows int64, from, to int) func(int) int64 {
	return func(n int) int64 {
		if n >= from && n < to {
			return rows
		}
		return 0
	}
}

func TestBypass(t *testing.T) {
	t.Parallel()
	burst := func(n int) int64 { return int64(1 + n%600/590*5000) }
	noisy := func(n int) int64 { return rand.New(rand.NewPCG(1, uint64(n))).Int64N(400) }
	for name, c := range map[string]traffic{
		"nothing at all":                        {seconds: 2000, app: steady(0), past: steady(0)},
		"the application alone":                 {seconds: 2000, app: steady(100), past: steady(0)},
		"the application alone, counted late":   {seconds: 2000, app: steady(100), past: steady(0), late: 10},
		"long windows, counted late":            {seconds: 2000, app: steady(100), past: steady(0), window: 20, late: 10},
		"an application that begins and ends":   {seconds: 2000, app: during(1000, 300, 700), past: steady(0), late: 10},
		"bursts":                                {seconds: 2000, app: burst, past: steady(0), late: 10},
		"uneven":                                {seconds: 2000, app: noisy, past: steady(0), late: 5},
		"half of its attempts fail":             {seconds: 2000, app: steady(100), past: steady(0), failed: 1, late: 10},
		"one in twelve is made again":           {seconds: 2000, app: steady(100), past: steady(0), unseen: 0.08, late: 10},
		"one row, by hand":                      {seconds: 2000, app: steady(100), past: during(1, 500, 501)},
		"a bypass without an application":       {seconds: 400, app: steady(0), past: during(500, 60, 400), finding: 60 + 45, since: 60},
		"a slow bypass without an application":  {seconds: 400, app: steady(0), past: during(1, 60, 400), finding: 60 + 70, since: 60},
		"a bypass beside the application":       {seconds: 400, app: steady(100), past: during(500, 60, 400), finding: 60 + 55, since: 60},
		"as much as the application":            {seconds: 400, app: steady(100), past: during(100, 60, 400), finding: 60 + 120, since: 60},
		"a fifth of the application":            {seconds: 2400, app: steady(100), past: during(20, 60, 2400), finding: 60 + 500, since: 60},
		"a job of ten seconds":                  {seconds: 400, app: steady(10), past: during(1000, 100, 110), finding: 100 + 55, since: 100},
		"counted late":                          {seconds: 400, app: steady(100), past: during(500, 60, 400), late: 10, finding: 60 + 65, since: 60},
		"it stops before the sample is settled": {seconds: 400, app: steady(0), past: during(500, 60, 65), finding: 60 + 45, since: 60},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.window, c.every = max(c.window, 10), 5
			at, found := c.run()
			switch {
			case c.finding == 0 && at != 0:
				t.Errorf("a false alarm at second %d: %+v", at, found)
			case c.finding != 0 && (at == 0 || at > c.finding):
				t.Errorf("found at second %d, want %d at the latest: %+v", at, c.finding, found)
			}
			if at == 0 {
				return
			}
			var made int64
			for n := range at {
				made += c.past(n)
			}
			if found.Least > made || found.Most < found.Least {
				t.Errorf("%d to %d, and %d were made", found.Least, found.Most, made)
			}
			if since := found.Since.Sub(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)); since < time.Duration(c.since-40)*time.Second || since > time.Duration(c.since+20)*time.Second {
				t.Errorf("since %s, want about %d s", since, c.since)
			}
		})
	}
}
