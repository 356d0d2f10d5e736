package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/stranglerfig/migrator/internal/app"
	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/humanize"
	"github.com/stranglerfig/migrator/internal/judge"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/phases"
)

func newGate(c *cli) *cobra.Command {
	return group("gate", "Inspect the gates of the next steps", newGateList(c), newGateExplain(c))
}

func newGateList(c *cli) *cobra.Command {
	var evaluate bool
	cmd := &cobra.Command{
		Use:   "list [MIGRATION]",
		Short: "List the gates before the next step and the next phase",
		Long: `Lists the gates before the next step, and on a ramp those before the next phase too:
the verdict of the newest evaluation, the bound beside its limit, the number of samples,
and when the gate will open if all continues as now. Exits with 8 while one is closed.`,
		Args: optionalName,
		RunE: c.withState(func(ctx context.Context, store *state.Store, name string) error {
			if evaluate {
				m, err := app.Applied(ctx, store, name)
				if err != nil {
					return err
				}
				e, err := store.Snapshot(ctx, name)
				if err == nil {
					_, err = c.judge(store, m).Gates(ctx, e)
				}
				if err != nil {
					return err
				}
			}
			views, next, now, err := app.ReadGates(ctx, store, name)
			if err != nil {
				return err
			}
			if next == (phases.Route{}) {
				return c.show(views, func() { c.printf("%s is complete: there is no further step\n", name) })
			}
			if err := c.show(views, func() { c.printGateList(views, now) }); err != nil {
				return err
			}
			return blockedBy(views, next)
		}),
	}
	cmd.Flags().BoolVar(&evaluate, "evaluate", false, "evaluate now, without waiting for the daemon")
	return cmd
}

// blockedBy is nil if every gate before the next step is open. Its hint is for the first
// one that is not.
func blockedBy(views []app.GateView, next phases.Route) error {
	var closed []string
	var help hint.Hint
	for _, v := range views {
		if v.Before != next || v.Open() {
			continue
		}
		closed = append(closed, v.Gate)
		switch {
		case !help.IsZero():
		case v.Evaluation != nil:
			help = hint.Hint{Do: hint.GateExplain, Of: []string{v.Gate}}
		case !v.Hint.IsZero():
			help = v.Hint
		default: // not measured: there is no evaluation to explain
			help = hint.Hint{Do: hint.AdvanceDryRun}
		}
	}
	if len(closed) == 0 {
		return nil
	}
	return notYet(hint.Errorf(help, "%s is blocked by %s", next, join(closed)))
}

func (c *cli) printGateList(views []app.GateView, now time.Time) {
	rows := [][]string{{"GATE", "BEFORE", "VERDICT", "BOUND", "LIMIT", "SAMPLES", "DUE", "EVALUATED"}}
	for _, v := range views {
		row := []string{v.Gate, v.Before.String(), string(v.Verdict), "-", "-", "-", "-", "-"}
		if e := v.Evaluation; e != nil {
			row[3], row[4], row[5], row[7] = bound(*e), number(e.Limit), humanize.Count(e.Samples), humanize.Ago(now, e.At)
		}
		if !v.Due.IsZero() {
			row[6] = "in " + humanize.Span(v.Due.Sub(now))
		}
		rows = append(rows, row)
	}
	c.table(rows)
}

func number(f float64) string { return fmt.Sprintf("%.4g", f) }

// bound is "-" where the samples are too few for one.
func bound(e phases.Evaluation) string {
	if !e.Bounded() {
		return "-"
	}
	return number(e.Bound)
}

// explained is the document of gate explain.
type explained struct {
	Gate       string              `json:"gate"`
	Evaluation phases.Evaluation   `json:"evaluation"`
	Again      phases.Verdict      `json:"again"`   // the verdict of its inputs, evaluated again now
	History    []phases.Evaluation `json:"history"` // evaluations before it, newest first
}

func newGateExplain(c *cli) *cobra.Command {
	var at string
	var limit int
	cmd := &cobra.Command{
		Use:   "explain GATE [MIGRATION]",
		Short: "Explain one gate or trigger evaluation",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usageTry(try("migrator gate list"), "name one gate or trigger")
			}
			return optionalName(cmd, args[1:])
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			filter := state.EvaluationFilter{Name: args[0], Limit: limit + 1}
			if at != "" {
				var err error
				if filter.At, err = time.Parse(time.RFC3339, at); err != nil {
					return usagef("--at %q: want a time such as %s", at, time.Now().UTC().Format(time.RFC3339))
				}
			}
			if limit < 0 {
				return usagef("--limit %d: want a number from 0 on", limit)
			}
			return c.withState(func(ctx context.Context, store *state.Store, name string) error {
				return c.explain(ctx, store, name, filter)
			})(cmd, args[1:])
		},
	}
	cmd.Flags().StringVar(&at, "at", "", "the newest evaluation at this `TIME` or before (RFC 3339)")
	cmd.Flags().IntVarP(&limit, "limit", "n", 10, "earlier evaluations to show")
	return cmd
}

func (c *cli) explain(ctx context.Context, store *state.Store, name string, filter state.EvaluationFilter) error {
	found, err := store.Evaluations(ctx, name, filter)
	if err != nil {
		return err
	}
	if len(found) == 0 {
		if !filter.At.IsZero() {
			return usageTry(hint.Hint{Do: hint.GateExplain, Of: []string{filter.Name}}, "no evaluation of %s is kept from %s or before", filter.Name, filter.At.Format(time.RFC3339))
		}
		return usageTry(try("migrator gate list --evaluate, or migrator phase advance --dry-run"), "no evaluation of %s is kept: it is off, is not measured, or there is no such gate or trigger", filter.Name)
	}
	x := explained{Gate: filter.Name, Evaluation: found[0], History: append([]phases.Evaluation{}, found[1:]...)}
	again, err := judge.Reevaluate(x.Evaluation)
	if err != nil {
		return err
	}
	x.Again = again.Verdict
	return c.show(x, func() {
		e := x.Evaluation
		c.printf("%s: %s, at %s (evaluation %d, epoch %d, config hash %s)\n", e.Name, e.Verdict, e.At.UTC().Format(time.RFC3339), e.ID, e.Epoch, e.ConfigHash[:min(12, len(e.ConfigHash))])
		c.printf("  why      %s\n", e.Detail)
		c.printf("  bound    %s, limit %s, measured %s, of %s samples\n", bound(e), number(e.Limit), number(e.Value), humanize.Count(e.Samples))
		if !e.Due.IsZero() {
			c.printf("  due      %s\n", e.Due.UTC().Format(time.RFC3339))
		}
		if !e.Hint.IsZero() && e.Verdict != phases.Pass {
			c.printf("  try      %s\n", c.given.text(e.Hint))
		}
		var inputs bytes.Buffer
		if json.Indent(&inputs, e.Inputs, "  ", "  ") == nil {
			c.printf("  inputs, whose verdict is %s when evaluated again:\n  %s\n", x.Again, strings.TrimSpace(inputs.String()))
		}
		for _, h := range x.History {
			c.printf("  %s  %-12s %s\n", h.At.UTC().Format(time.RFC3339), h.Verdict, h.Detail)
		}
	})
}
