package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/phases"
)

func newTrigger(c *cli) *cobra.Command {
	acknowledge := newAcknowledge(c)
	acknowledge.Short = "The same as migrator phase acknowledge"
	return group("trigger", "Look at what takes reads back by itself", newTriggerList(c), newTriggerTest(c), acknowledge)
}

// triggers is the document of trigger list.
type triggers struct {
	Acts     bool               `json:"acts"` // one that fires takes reads back, where the migration stands
	Triggers []triggerView      `json:"triggers"`
	Latch    *phases.Latch      `json:"latch,omitempty"`
	Rollback *automaticRollback `json:"rollback,omitempty"` // the newest
}

// triggerView is one trigger with the newest look at it.
type triggerView struct {
	Trigger    string             `json:"trigger"`
	Off        string             `json:"off,omitempty"`
	DryRun     bool               `json:"dry_run"`
	Evaluation *phases.Evaluation `json:"evaluation,omitempty"`
}

// automaticRollback is how one went, by the state database's clock.
type automaticRollback struct {
	Trigger   string    `json:"trigger"`
	Fired     time.Time `json:"fired"`
	Committed time.Time `json:"committed"`
	Settled   time.Time `json:"settled,omitzero"` // when every instance was known to read legacy
}

func newTriggerList(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "list [MIGRATION]",
		Short: "List the triggers, the newest look at each, and how the newest automatic rollback went",
		Args:  maybeName,
		RunE: c.withState(func(ctx context.Context, store *state.Store, name string) error {
			list, now, err := listTriggers(ctx, store, name)
			if err != nil {
				return err
			}
			return c.show(list, func() { c.printTriggers(list, now) })
		}),
	}
}

func listTriggers(ctx context.Context, store *state.Store, name string) (list triggers, now time.Time, err error) {
	m, err := appliedSettings(ctx, store, name)
	if err != nil {
		return list, now, err
	}
	// Before the latch is read: a rollback that is shown is one whose latch is, too.
	last, err := newestRollback(ctx, store, name)
	if err != nil {
		return list, now, err
	}
	e, err := store.Evidence(ctx, name)
	if err != nil {
		return list, now, err
	}
	newest, err := store.Evaluations(ctx, name, state.EvaluationFilter{Kind: phases.TriggerKind, Newest: true})
	if err != nil {
		return list, now, err
	}
	list = triggers{Acts: e.Standing.Route.Phase.TriggersAct(), Triggers: []triggerView{}, Latch: e.Latch}
	for _, t := range m.Triggers.All() {
		v := triggerView{Trigger: t.Name, Off: t.Off, DryRun: t.DryRun}
		for i := range newest {
			if newest[i].Name == t.Name {
				v.Evaluation = &newest[i]
			}
		}
		list.Triggers = append(list.Triggers, v)
	}
	list.Rollback = last
	return list, e.Now, nil
}

// newestRollback is nil if no trigger has ever taken reads back.
func newestRollback(ctx context.Context, store *state.Store, name string) (*automaticRollback, error) {
	changes, err := store.Changes(ctx, name)
	if err != nil {
		return nil, err
	}
	var last *automaticRollback
	for _, c := range changes {
		if c.Cause == phases.CauseTrigger {
			last = &automaticRollback{Committed: c.At, Settled: c.Settled}
		}
	}
	if last == nil {
		return nil, nil
	}
	fired, err := store.Fired(ctx, name)
	if err == nil {
		last.Trigger, last.Fired = fired.Name, fired.At
	}
	return last, err
}

func (c *cli) printTriggers(list triggers, now time.Time) {
	rows := [][]string{{"TRIGGER", "STATE", "BOUND", "LIMIT", "SAMPLES", "LOOKED AT", "WHY"}}
	for _, t := range list.Triggers {
		row := []string{t.Trigger, "not looked at", "-", "-", "-", "-", "-"}
		if e := t.Evaluation; e != nil {
			row = []string{t.Trigger, string(e.Verdict), number(e.Bound), number(e.Limit), count(e.Samples), ago(now, e.At), e.Detail}
		}
		switch {
		case t.Off != "":
			row[1], row[6] = "off", t.Off
		case t.DryRun:
			row[1] += " (dry run)"
		}
		rows = append(rows, row)
	}
	c.table(rows)
	if !list.Acts {
		c.printf("there are no reads to take back where the migration stands: one that fires is only told of\n")
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
		c.printf("try: migrator trigger acknowledge --reason '...', once its cause is mended\n")
	}
}
