package runbook

import (
	"fmt"
	"strings"
	"time"

	"github.com/stranglerfig/migrator/internal/oneline"
)

// Report is a run as Markdown, for a post-mortem: what happened when, who decided what, and
// what each step did and wrote.
type Report struct {
	Title    string
	Run      int64
	Subject  string // the migration, who began the run, and the epoch
	Status   Status
	Began    time.Time
	Finished time.Time // zero: not yet
	Records  []Record
	Book     *Runbook // nil: its text can't be read
}

// Markdown renders the report.
func (r Report) Markdown() string {
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format, args...) }
	p("# %s: run %d\n\n", oneline.Markdown(r.Title), r.Run)
	p("- **Ended:** %s", r.Status)
	if !r.Finished.IsZero() {
		p(", after %s", r.Finished.Sub(r.Began).Round(time.Second))
	}
	p("\n- **Began:** %s\n- **What:** %s\n\n## What happened\n\n", stamp(r.Began), oneline.Markdown(r.Subject))
	p("| at (UTC) | step | what | attempt | outcome | took | by |\n|---|---|---|---|---|---|---|\n")
	for _, x := range r.Records {
		outcome, took, by := string(x.Outcome), "", x.Actor
		if outcome == "" {
			outcome = "none"
		}
		if !x.Ended.IsZero() {
			took = x.Ended.Sub(x.Began).Round(time.Millisecond).String()
		}
		if x.EndedBy != "" && x.EndedBy != x.Actor {
			by += ", " + x.EndedBy
		}
		p("| %s | %s | %s | %d | %s | %s | %s |\n", x.Began.UTC().Format("15:04:05.000"), oneline.Markdown(x.Block), x.Kind, x.Attempt, outcome, took, oneline.Markdown(by))
	}
	p("\n## Step by step\n")
	for _, x := range r.Records {
		p("\n### %s", oneline.Markdown(x.Block))
		if x.Block != x.Step {
			p(", for %s", oneline.Markdown(x.Step))
		}
		if x.Attempt > 1 {
			p(", attempt %d", x.Attempt)
		}
		p("\n")
		if r.Book != nil {
			if s := r.Book.Named(x.Block); s != nil {
				p("\n%s\n", fenced(s.Language, s.Body))
			}
		}
		for _, part := range []struct{ what, text string }{{"Reason", x.Detail.Reason}, {"Failed", x.Detail.Error}} {
			if part.text != "" {
				p("\n%s: %s\n", part.what, oneline.Markdown(part.text))
			}
		}
		if strings.TrimSpace(x.Detail.Output) != "" {
			p("\n%s\n", fenced("text", strings.TrimRight(x.Detail.Output, "\n")))
		}
	}
	p("\n## Lessons\n\n- What went well?\n- What went wrong, and why?\n- What will change, who does it, until when?\n")
	return b.String()
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// fenced writes a code block whose fence is longer than any inside it.
func fenced(language, body string) string {
	fence := "```"
	for strings.Contains(body, fence) {
		fence += "`"
	}
	return fence + language + "\n" + body + "\n" + fence
}
