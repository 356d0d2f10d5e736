package drill

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/phases"
)

// fullReport is a report with every part, and with texts that need escaping.
func fullReport() Report {
	const bad = "<script>alert(1)</script> | x\ny"
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	r := Report{
		Drill: 7, Migration: "products", Environment: "staging", Actor: bad, Began: at, Finished: at.Add(time.Minute),
		Reasons: []string{bad}, Fault: Fault{Kind: "errors", Share: 10000, Reads: true, Injected: at, Observed: at},
		Steps:        []Step{{Name: "check", Began: at, OK: true, Detail: bad}, {Name: "observe", Began: at, Detail: bad}},
		Healthy:      &Healthy{From: at, Until: at.Add(time.Second), Triggers: []Observations{{Trigger: "errors", Acts: true, Verdicts: map[phases.Verdict]int{phases.Quiet: 3}, Last: bad}, {Trigger: "latency"}}},
		FaultTargets: []FaultTarget{{Instance: bad, About: bad}}, Daemon: &Killed{Process: bad, At: at},
		Fired: &Fired{Cause: phases.CauseTrigger, Trigger: "errors", Detail: bad, Evaluation: 7, Inputs: []byte(`{"a":"<b>"}`)},
		Times: &Times{Detect: 1.5, Total: 2}, Load: &Totals{Kind: bad}, Ledger: &Checked{Lost: 1, Violations: []string{bad}},
		Controls: &Controls{}, Reconciles: []Reconciled{{When: "before"}}, Marks: []Mark{{At: at, What: bad}},
	}
	for n := range 10 {
		r.Series = append(r.Series, Second{At: at.Add(time.Duration(n) * time.Second), Reads: int64(n * 100), Writes: int64(n), Failed: 1, ReadP99: 1.5})
	}
	return r
}

// TestReportEscapesTexts: and the page loads nothing.
func TestReportEscapesTexts(t *testing.T) {
	t.Parallel()
	r := fullReport()
	page, err := r.Page()
	if err != nil {
		t.Fatal(err)
	}
	text := string(page)
	if strings.Contains(text, "<script") || regexp.MustCompile(`(?i)(src|href)\s*=|url\(|@import`).MatchString(text) {
		t.Error("the page runs or loads something")
	}
	if strings.Count(text, "<svg") != 2 || strings.Count(text, "<polyline") != 5 || !strings.Contains(text, "FAIL") {
		t.Error("the page lacks its charts or its verdict")
	}
	markdown := r.Markdown()
	for line := range strings.Lines(markdown) {
		if strings.Contains(line, "<script") || strings.HasPrefix(line, "|") && strings.HasPrefix(line, "y") {
			t.Errorf("a text is not escaped: %s", line)
		}
	}
	for _, want := range []string{"# Rollback drill 7", "detect 1.50 s", "1 lost", "## Steps", "quiet 3", "not evaluated", "evaluation"} {
		if !strings.Contains(strings.ToLower(markdown), strings.ToLower(want)) {
			t.Errorf("the document lacks %q", want)
		}
	}
	if strings.Contains(markdown+text, `"a"`) {
		t.Error("inputs of the evaluation are shown as JSON")
	}
	for _, c := range []struct {
		change func(*Report)
		want   string
	}{
		{
			func(r *Report) {
				r.FaultTargets = []FaultTarget{{Instance: "a", Executed: 3}, {Instance: "b", Armed: true}, {Instance: "c"}, {Instance: "own", About: loadAbout, Executed: 9}}
			},
			"application 1 instance of 3 met the fault: a (3 operations); b had no operation that it applies to; c did not take the fault up",
		},
		{func(r *Report) { r.FaultTargets = nil }, "application no instance of the application was live"},
		{func(r *Report) { r.Ledger.StaleReads = nil }, "stale reads not watched"},
		{func(r *Report) { r.Ledger.StaleReads, r.Ledger.Watched = new(int64), 7 }, "stale reads 0 of 7 that were watched"},
		{func(r *Report) { r.Daemon = nil }, "not shown   "},
		{func(r *Report) { r.Daemon = nil }, "the death of the daemon; writes that the target fails; other faults (latency, blackhole, corrupt)"},
	} {
		r := fullReport()
		c.change(&r)
		if got := r.Summary(); !strings.Contains(got, c.want) {
			t.Errorf("%s\ndoes not contain %q", got, c.want)
		}
	}
	var nothing Report
	if _, err := nothing.Page(); err != nil {
		t.Errorf("of an empty report: %v", err)
	}
	if !strings.Contains(nothing.Markdown(), "FAIL") || !strings.Contains(nothing.Summary(), "FAIL") {
		t.Error("an empty report has not failed")
	}
}
