package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/stranglerfig/migrator/internal/app"
	"github.com/stranglerfig/migrator/internal/humanize"
	"github.com/stranglerfig/migrator/internal/state"
)

func newTrigger(c *cli) *cobra.Command {
	acknowledge := newAcknowledge(c)
	acknowledge.Short = "Same as migrator phase acknowledge"
	return group("trigger", "Inspect automatic rollback triggers", newTriggerList(c), newTriggerTest(c), acknowledge)
}

func newTriggerList(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "list [MIGRATION]",
		Short: "List triggers and the newest automatic rollback",
		Args:  optionalName,
		RunE: c.withState(func(ctx context.Context, store *state.Store, name string) error {
			list, now, err := app.ReadTriggers(ctx, store, name)
			if err != nil {
				return err
			}
			return c.show(list, func() { c.printTriggers(list, now) })
		}),
	}
}

func (c *cli) printTriggers(list app.Triggers, now time.Time) {
	rows := [][]string{{"TRIGGER", "STATE", "SINCE", "BOUND", "LIMIT", "SAMPLES", "EVALUATED", "WHY"}}
	for _, t := range list.Triggers {
		row := []string{t.Trigger, "not evaluated", "-", "-", "-", "-", "-", "-"}
		if e := t.Evaluation; e != nil {
			row = []string{t.Trigger, string(e.Verdict), humanize.Ago(now, t.Since), number(e.Bound), number(e.Limit), humanize.Count(e.Samples), humanize.Ago(now, e.At), e.Detail}
		}
		switch {
		case t.Off != "":
			row[1], row[2], row[7] = "off", "-", t.Off
		case t.DryRun:
			row[1] += " (dry run)"
		}
		rows = append(rows, row)
	}
	c.table(rows)
	if !list.Acts {
		c.printf("all reads already come from legacy: a firing trigger is logged only\n")
	}
	if r := list.Rollback; r != nil {
		settled := "not settled yet"
		if !r.Settled.IsZero() {
			settled = "settled " + r.Settled.Sub(r.Committed).Round(time.Millisecond).String() + " later"
		}
		c.printf("%s fired at %s: committed %s later, %s\n", r.Trigger, r.Fired.UTC().Format(time.RFC3339Nano), r.Committed.Sub(r.Fired).Round(time.Millisecond), settled)
	}
	if l := list.Latch; l != nil {
		c.printf("%s\n", c.paint(c.out, red, fmt.Sprintf("latched: %s", l.Reason)))
		c.printf("try: migrator trigger acknowledge --reason '...', once its cause is fixed\n")
	}
}
