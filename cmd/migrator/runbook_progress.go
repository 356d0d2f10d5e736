package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/stranglerfig/migrator/internal/state/runbooks"
	"github.com/stranglerfig/migrator/runbook"
)

// runbookProgress prints a run's events: plain lines on stderr, in colour on a terminal.
func (c *cli) runbookProgress(ctx context.Context, runs *runbooks.Runs, id int64) func(runbook.Event) {
	return func(e runbook.Event) {
		at := ""
		if e.Number > 0 {
			at = fmt.Sprintf("[%d/%d] ", e.Number, e.Of)
		}
		switch e.What {
		case "begin":
			of, after := "", ""
			if e.Block != e.Step {
				of = " for " + e.Step.ID
			}
			if e.Record.Attempt > 1 {
				after = fmt.Sprintf(", attempt %d", e.Record.Attempt)
			}
			if e.Block.Title != "" {
				after += ": " + e.Block.Title
			}
			c.note("%s%s%s %s%s", at, c.paint(c.err, bold, e.Block.ID), of, c.paint(c.err, dim, string(e.Block.Kind)), after)
		case "line":
			c.note("      %s", c.paint(c.err, dim, e.Text))
		case "warn":
			c.note("%s%s %s", at, c.paint(c.err, yellow, "Warning:"), e.Text)
		case "wait":
			if e.Block.Kind == runbook.Approve {
				c.requestApproval(ctx, runs, id, e)
				return
			}
			c.note("      %s", e.Text)
		case "end":
			style := green
			switch e.Record.Outcome {
			case runbook.Failed:
				style = red
			case runbook.Unknown:
				style = yellow
			}
			why := ""
			for _, text := range []string{e.Record.Detail.Reason, e.Record.Detail.Error} {
				if text != "" {
					why += ": " + text
				}
			}
			c.note("      %s%s", c.paint(c.err, style, outcomeWord(e.Record)), why)
		}
	}
}

// requestApproval asks for the approval on this terminal. Without an answer it returns:
// the approval may come from another terminal.
func (c *cli) requestApproval(ctx context.Context, runs *runbooks.Runs, id int64, e runbook.Event) {
	for line := range strings.Lines(e.Text) {
		c.note("      %s", strings.TrimRight(line, "\n"))
	}
	c.note("      waiting for: migrator runbook approve %d %s", id, e.Step.ID)
	if !c.interactive() {
		return
	}
	answer, err := c.ask(ctx, "      Approve it here? [y/n, or Enter to wait for another terminal] ")
	if err != nil {
		return // ctx has ended, and with it the wait for the approval
	}
	outcome := runbook.Done
	switch answer {
	case "y", "yes":
	case "n", "no":
		outcome = runbook.Failed
	default:
		return
	}
	if _, err := runs.Decide(ctx, id, e.Step.ID, outcome, "at the terminal of the run"); err != nil {
		c.note("      %s", err)
	}
}

var errUndecided = errors.New("left open")

// askOutcome asks for the outcome of an interrupted step.
func (c *cli) askOutcome(ctx context.Context, s *runbook.Step, r runbook.Record) (runbook.Outcome, error) {
	if !c.interactive() {
		return "", errUndecided
	}
	c.note("      Step %s began at %s on %s and was interrupted.", r.Step, r.Began.Format("15:04:05"), r.Host)
	for line := range strings.Lines(s.Body) {
		c.note("      | %s", strings.TrimRight(line, "\n"))
	}
	answer, err := c.ask(ctx, "      Was it done? [y: done, n: not done, run it again, f: it failed, Enter: leave it] ")
	if err != nil {
		return "", err
	}
	switch answer {
	case "y":
		return runbook.Done, nil
	case "n":
		return runbook.Unknown, nil
	case "f":
		return runbook.Failed, nil
	}
	return "", errUndecided
}
