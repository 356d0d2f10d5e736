package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/stranglerfig/migrator/internal/app"
	"github.com/stranglerfig/migrator/internal/configschema"
	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/humanize"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/state/runbooks"
	"github.com/stranglerfig/migrator/runbook"
)

func newRunbook(c *cli) *cobra.Command {
	cmd := group("runbook", "Render, verify and run runbooks",
		newRunbookRender(c), newRunbookVerify(c), newRunbookRun(c), newRunbookResume(c), newRunbookApprove(c),
		newRunbookList(c), newRunbookShow(c), newRunbookExport(c), newRunbookSchema(c))
	cmd.Long = `A runbook is Markdown whose code blocks with an id are steps: see docs/runbooks.md.
Each step's intent is recorded before it acts and its outcome after, so that an
interrupted run resumes without repeating a step that must not run twice.`
	return cmd
}

// runArgs parses a run's number and the arguments after it.
func runArgs(args []string, names ...string) (int64, []string, error) {
	want := strings.Join(append([]string{"RUN"}, names...), " ")
	if len(args) != 1+len(names) {
		return 0, nil, usageTry(hint.Hint{Do: hint.RunbookList}, "want %s, but got %d arguments", want, len(args))
	}
	id, err := strconv.ParseInt(args[0], 10, 64)
	if err != nil || id < 1 {
		return 0, nil, usageTry(hint.Hint{Do: hint.RunbookList}, "%q is no number of a run", args[0])
	}
	return id, args[1:], nil
}

// runAnd is cobra's validator for a run's number and the arguments after it.
func runAnd(names ...string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		_, _, err := runArgs(args, names...)
		return err
	}
}

// withRuns runs f on the runs of the migration that the command is about.
func (c *cli) withRuns(f func(ctx context.Context, runs *runbooks.Runs, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		return c.withState(func(ctx context.Context, store *state.Store, name string) error {
			return f(ctx, runbooks.New(store.Pool(), name), args)
		})(cmd, nil)
	}
}

// withRun runs f on the run that the command names.
func (c *cli) withRun(f func(app.RunbookView) error) func(*cobra.Command, []string) error {
	return c.withRuns(func(ctx context.Context, runs *runbooks.Runs, args []string) error {
		id, _, err := runArgs(args)
		if err != nil {
			return err
		}
		v, err := app.ViewRunbook(ctx, runs, id)
		if err != nil {
			return err
		}
		return f(v)
	})
}

func newRunbookList(c *cli) *cobra.Command {
	var limit int
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the runs of runbooks, newest first",
		Args:    noArgs,
		PreRunE: limitAboveZero(&limit),
		RunE: c.withRuns(func(ctx context.Context, runs *runbooks.Runs, _ []string) error {
			list, err := runs.List(ctx, limit)
			if err != nil {
				return err
			}
			if list == nil {
				list = []runbooks.Run{}
			}
			return c.show(list, func() {
				if len(list) == 0 {
					c.printf("no runbook has been run\n")
					return
				}
				rows := [][]string{{"RUN", "RUNBOOK", "STATUS", "BEGAN", "TOOK", "BY"}}
				for _, r := range list {
					took := ""
					if !r.Finished.IsZero() {
						took = humanize.Span(r.Finished.Sub(r.Began))
					}
					rows = append(rows, []string{fmt.Sprint(r.ID), r.Runbook, string(r.Status), r.Began.UTC().Format(time.RFC3339), took, r.Actor})
				}
				c.table(rows)
			})
		}),
	}
	cmd.Flags().IntVarP(&limit, "limit", "n", 20, "newest runs to show")
	return cmd
}

func newRunbookShow(c *cli) *cobra.Command {
	var output bool
	cmd := &cobra.Command{
		Use:   "show RUN",
		Short: "Show one run, step by step, with the steps' output",
		Args:  runAnd(),
		RunE: c.withRun(func(v app.RunbookView) error {
			return c.show(v, func() { c.printRun(v, output) })
		}),
	}
	cmd.Flags().BoolVar(&output, "output-of-steps", true, "with the output of each step")
	return cmd
}

func (c *cli) printRun(v app.RunbookView, output bool) {
	r := v.Run
	c.printf("run %d of %s (%s): %s\n", r.ID, r.Runbook, r.Title, c.paintStatus(string(r.Status)))
	c.printf("  %s, by %s, began %s in epoch %d, config hash %s\n", r.Migration, r.Actor, r.Began.UTC().Format(time.RFC3339), r.Epoch, humanize.Short(r.ConfigHash))
	for _, s := range v.Steps {
		c.printf("%s  %-10s %-12s %s\n", s.Began.UTC().Format("15:04:05.000"), recordWord(s), s.Block, c.paintStatus(outcomeWord(s)))
		for _, text := range []string{s.Detail.Reason, s.Detail.Error} {
			if text != "" {
				c.printf("                %s\n", text)
			}
		}
		if output {
			for line := range strings.Lines(s.Detail.Output) {
				c.printf("                | %s\n", strings.TrimRight(line, "\n"))
			}
		}
	}
	if !r.Status.Ended() {
		c.printf("It has not ended. To resume it: migrator runbook resume %d\n", r.ID)
	}
}

func recordWord(s runbook.Record) string {
	if s.Attempt > 1 {
		return fmt.Sprintf("%s (%d)", s.Kind, s.Attempt)
	}
	return string(s.Kind)
}

func outcomeWord(s runbook.Record) string {
	switch {
	case s.Outcome == "" && s.Kind == runbook.Approve:
		return "waits for approval"
	case s.Outcome == "":
		return "no outcome"
	case s.Kind == runbook.Approve && s.Outcome == runbook.Done:
		return "approved by " + s.EndedBy
	case s.Detail.Seconds > 0:
		return fmt.Sprintf("%s after %s", s.Outcome, humanize.Span(time.Duration(s.Detail.Seconds*float64(time.Second))))
	}
	return string(s.Outcome)
}

func (c *cli) paintStatus(word string) written {
	switch first, _, _ := strings.Cut(word, " "); first {
	case "done", "approved":
		return c.paint(c.out, green, word)
	case "failed":
		return c.paint(c.out, red, word)
	case "waiting", "compensated", "compensating", "unknown", "waits", "no":
		return c.paint(c.out, yellow, word)
	}
	return c.paint(c.out, "", word)
}

func newRunbookApprove(c *cli) *cobra.Command {
	var reject bool
	var reason string
	cmd := &cobra.Command{
		Use:   "approve RUN STEP",
		Short: "Approve a waiting runbook step",
		Long: `Approves a step of a run that waits for approval, or rejects it: the run then
compensates the steps that are done. The approver is the role that connects to the
state database. It must be a member of phases.approval.role, and of the step's own role.`,
		Args: runAnd("STEP"),
		PreRunE: func(*cobra.Command, []string) error {
			if reject && strings.TrimSpace(reason) == "" {
				return usageTry(try("--reason 'why not now'"), "a rejection needs a reason")
			}
			return nil
		},
		RunE: c.withRuns(func(ctx context.Context, runs *runbooks.Runs, args []string) error {
			id, rest, err := runArgs(args, "STEP")
			if err != nil {
				return err
			}
			outcome := runbook.Done
			if reject {
				outcome = runbook.Failed
			}
			r, err := app.ApproveStep(ctx, runs, id, rest[0], outcome, reason)
			if err != nil {
				return err
			}
			return c.show(r, func() {
				word := "approves"
				if reject {
					word = "rejects"
				}
				if c.dryRun {
					c.printf("Nothing was changed. Without --dry-run: ")
				}
				c.printf("%s %s step %s of run %d\n", r.EndedBy, word, r.Step, id)
			})
		}),
	}
	cmd.Flags().BoolVar(&reject, "reject", false, "reject the step instead")
	cmd.Flags().StringVar(&reason, "reason", "", "for the log")
	return c.canDryRun(cmd)
}

func newRunbookSchema(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON Schema of front matter and step attributes",
		Args:  noArgs,
		RunE: func(*cobra.Command, []string) error {
			text, err := configschema.Runbook()
			if err == nil {
				_, err = c.out.Write(text)
			}
			return err
		},
	}
}
