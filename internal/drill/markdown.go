package drill

import (
	"fmt"
	"strings"
	"time"

	"github.com/stranglerfig/migrator/internal/oneline"
)

// Verdict is PASS or FAIL.
func (r *Report) Verdict() string {
	if r.Passed {
		return "PASS"
	}
	return "FAIL"
}

// Summary is the report in some lines, for a terminal.
func (r *Report) Summary() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Drill %d of %s: %s\n", r.Drill, r.Migration, r.Verdict())
	for _, reason := range r.Reasons {
		fmt.Fprintf(&b, "reason      %s\n", oneline.Escape(reason))
	}
	for _, row := range r.rows() {
		fmt.Fprintf(&b, "%-11s %s\n", row[0], oneline.Escape(row[1]))
	}
	return b.String()
}

// rows returns the report's main facts.
func (r *Report) rows() (rows [][2]string) {
	add := func(name, format string, args ...any) {
		rows = append(rows, [2]string{name, fmt.Sprintf(format, args...)})
	}
	f := r.Fault
	if !f.Injected.IsZero() {
		add("application", "%s", r.applicationText())
	}
	add("route", "%s → %s", r.Before, r.After)
	if !f.Injected.IsZero() {
		add("fault", "%s, %s %% of %s, injected into %d operations", f.Kind, f.Share, r.operations(), f.Executed)
	}
	if r.Daemon != nil {
		add("daemon", "%s was killed %.2f s after the first operation met the fault", r.Daemon.Process, r.Daemon.At.Sub(f.Observed).Seconds())
	}
	if r.Fired != nil {
		name := r.Fired.Trigger
		if name == "" {
			name = "a refused write"
		}
		add("fired", "%s: %s", name, r.Fired.Detail)
	}
	if t := r.Times; t != nil {
		add("since met", "%.2f s: detect %.2f s, decide %.2f s, commit %.2f s, settle %.2f s", t.Total, t.Detect, t.Decide, t.Commit, t.Settle)
		if t.FromInjection > 0 {
			add("since start", "%.2f s from the injection", t.FromInjection)
		}
	}
	if l := r.Load; l != nil {
		add("load", "%s: %d reads, %d acknowledged writes, %d failed", l.Kind, l.Reads, l.Writes, l.Failed)
	}
	if l := r.Ledger; l != nil {
		add("ledger", "%d records: %d lost, %s, %d older in the target", l.Records, l.Lost, watchedText(l.Stale, "stale"), l.Behind)
		add("stale reads", "%s", l.staleReadsText())
	}
	if c := r.Controls; c != nil {
		add("controls", "quiet without a fault: %t; planted differences found: %d of %d; a write that was never made is reported as lost: %t",
			c.QuietWithoutFault, c.PlantedFound, len(c.Planted), c.NegativeControlFound)
	}
	for _, one := range r.Reconciles {
		add("reconcile", "%s: %d records, %d differences, %d repaired (run %d)", one.When, one.Checked, one.Differences, one.Repaired, one.Run)
	}
	if !f.Injected.IsZero() {
		add("not shown", "%s", strings.Join(r.notRehearsed(), "; "))
	}
	return rows
}

func (r *Report) operations() string {
	switch {
	case r.Fault.Reads && r.Fault.Writes:
		return "reads and writes"
	case r.Fault.Writes:
		return "writes"
	default:
		return "reads"
	}
}

// Markdown is the report as a document.
func (r *Report) Markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Rollback drill %d of %s: %s\n\n", r.Drill, oneline.Markdown(r.Migration), r.Verdict())
	fmt.Fprintf(&b, "%s to %s, in %s, by %s, on configuration `%s` (rehearsal `%s`).\n\n",
		stamp(r.Began), stamp(r.Finished), oneline.Markdown(r.Environment), oneline.Markdown(r.Actor), short(r.ConfigHash), short(r.Rehearsal))
	fmt.Fprintf(&b, "%s\n\n", oneline.Markdown(r.sentence()))
	if len(r.Reasons) > 0 {
		b.WriteString("## Why it failed\n\n")
		for _, reason := range r.Reasons {
			fmt.Fprintf(&b, "- %s\n", oneline.Markdown(reason))
		}
		b.WriteByte('\n')
	}
	b.WriteString("| what | |\n|---|---|\n")
	for _, row := range r.rows() {
		fmt.Fprintf(&b, "| %s | %s |\n", row[0], oneline.Markdown(row[1]))
	}
	b.WriteString("\n## Steps\n\n| began | step | took | |\n|---|---|---|---|\n")
	for _, s := range r.Steps {
		result := "ok"
		if !s.OK {
			result = "**FAIL**"
		}
		fmt.Fprintf(&b, "| %s | %s | %.2f s | %s %s |\n", s.Began.Format("15:04:05.000"), oneline.Markdown(s.Name), s.Took, result, oneline.Markdown(s.Detail))
	}
	if h := r.Healthy; h != nil {
		fmt.Fprintf(&b, "\n## Before the fault\n\n%d reads and %d acknowledged writes in %.0f s.\n\n| trigger | acts | verdicts | last |\n|---|---|---|---|\n",
			h.Reads, h.Writes, h.Until.Sub(h.From).Seconds())
		for _, l := range h.Triggers {
			fmt.Fprintf(&b, "| %s | %t | %s | %s |\n", l.Trigger, l.Acts, l.counts(), oneline.Markdown(l.Last))
		}
	}
	if len(r.FaultTargets) > 0 {
		b.WriteString("\n## Instances with the fault\n\n| instance | what it is | active | operations | first |\n|---|---|---|---|---|\n")
		for _, p := range r.FaultTargets {
			fmt.Fprintf(&b, "| %s | %s | %t | %d | %s |\n", oneline.Markdown(p.Instance), oneline.Markdown(p.About), p.Armed, p.Executed, stamp(p.First))
		}
	}
	if f := r.Fired; f != nil && f.Evaluation > 0 {
		fmt.Fprintf(&b, "\n## Evaluation that rolled back\n\nEvaluation %d of %s: value %g, bound %g, limit %g, of %d samples.\n",
			f.Evaluation, f.Trigger, f.Value, f.Bound, f.Limit, f.Samples)
	}
	if r.Ledger != nil && len(r.Ledger.Violations) > 0 {
		b.WriteString("\n## Violations\n\n")
		for _, v := range r.Ledger.Violations {
			fmt.Fprintf(&b, "- %s\n", oneline.Markdown(v))
		}
	}
	return b.String()
}

func (l *Observations) counts() string {
	var parts []string
	for _, v := range verdicts {
		if n := l.Verdicts[v]; n > 0 {
			parts = append(parts, fmt.Sprintf("%s %d", v, n))
		}
	}
	if parts == nil {
		return "not evaluated"
	}
	return strings.Join(parts, ", ")
}

func short(hash string) string { return hash[:min(12, len(hash))] }

func stamp(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.UTC().Format("2006-01-02 15:04:05.000 UTC")
}
