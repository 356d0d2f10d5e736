package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// plan is what the -o json contract of plan and doctor holds.
type plan struct {
	Migration string         `json:"migration"`
	Checks    []store.Check  `json:"checks"`
	Phases    []plannedPhase `json:"phases,omitempty"`
	Fields    []record.Field `json:"fields,omitempty"`
	Refused   int            `json:"refused"`
	Warnings  int            `json:"warnings"`
}

type plannedPhase struct {
	Phase    phases.Phase    `json:"phase"`
	Steps    string          `json:"steps,omitempty"`
	AtLeast  phases.Duration `json:"at_least,omitempty"`
	Gates    []string        `json:"gates"` // on the way in
	Rollback string          `json:"rollback"`
}

func newPlan(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "plan",
		Short: "Check both stores and show the phases ahead; change nothing",
		Long: `Connects to both stores and the state database, checks privileges, the key, the
types, versions and settings that would hurt later, and prints the phases with
their gates. Exits with 2 if anything must be mended first.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			m, err := c.load()
			if err != nil {
				return err
			}
			p := c.examine(cmd.Context(), m)
			p.Phases = plannedPhases(m.Settings())
			if err := c.show(p, func() { c.printPlan(p) }); err != nil {
				return err
			}
			return p.verdict()
		},
	}
}

// verdict is nil if the migration may be applied.
func (p *plan) verdict() error {
	if p.Refused == 0 {
		return nil
	}
	if p.Refused == 1 {
		return usagef("a check refuses the migration")
	}
	return usagef("%d checks refuse the migration", p.Refused)
}

// examine makes every check that it can get to.
func (c *cli) examine(ctx context.Context, m *migration.Config) *plan {
	p := &plan{Migration: m.Name}
	if url, err := c.settings.stateURL(); err != nil {
		p.refuse("state", err)
	} else {
		p.add("state", state.Check(ctx, url))
	}
	legacy, err := m.OpenLegacy(ctx)
	if err != nil {
		p.refuse("legacy", err)
		return p
	}
	defer legacy.Close()
	checks, err := legacy.Check(ctx)
	p.add("legacy", checks)
	if err != nil {
		p.refuse("legacy", err)
	}
	p.add("legacy", c.fenceAgrees(ctx, m.Name, legacy))
	if finder, ok := legacy.(store.RecentFinder); ok && m.Reconcile.Recent.Column != "" {
		if err := finder.CheckRecent(ctx, m.Reconcile.Recent.Column); err != nil {
			p.add("legacy", []store.Check{refusal("young", err)})
		}
	}
	p.Fields = legacy.Schema().Fields
	target, err := m.OpenTarget(ctx, legacy.Schema())
	if err != nil {
		p.refuse("target", err)
		return p
	}
	defer func() { _ = target.Close() }()
	checks, err = target.Check(ctx)
	p.add("target", checks)
	if err != nil {
		p.refuse("target", err)
	}
	if _, err := record.NewComparer(legacy.Schema(), m.Compare); err != nil {
		p.refuse("compare", err)
	}
	return p
}

func (p *plan) add(side string, checks []store.Check) {
	for _, check := range checks {
		check.Name = side + ": " + strings.TrimPrefix(check.Name, side+"-")
		switch check.Result {
		case store.Refused:
			p.Refused++
		case store.Warned:
			p.Warnings++
		}
		p.Checks = append(p.Checks, check)
	}
}

func (p *plan) refuse(side string, err error) {
	p.add(side, []store.Check{refusal("open", err)})
}

func refusal(name string, err error) store.Check {
	what, h := hint.Parts(err)
	return store.Check{Name: name, Result: store.Refused, Detail: what, Hint: h}
}

// plannedPhases lists what lies ahead, by the gates that Gates evaluates.
func plannedPhases(s phases.Settings) []plannedPhase {
	var planned []plannedPhase
	from := phases.Route{Phase: phases.Legacy}
	for i, p := range phases.Order {
		entry := plannedPhase{Phase: p, Rollback: rollbackWord(p, s)}
		if i > 0 {
			from = phases.Route{Phase: phases.Order[i-1]}
			if from.Phase.Ramped() {
				from.Percent = phases.All
			}
			to := phases.Route{Phase: p}
			if p.Ramped() {
				to.Percent = 1
			}
			e := phases.Evidence{Standing: phases.Standing{Route: from}}
			for _, g := range phases.Gates(to, s, e) {
				entry.Gates = append(entry.Gates, g.Gate)
			}
		}
		entry.Steps, entry.AtLeast = stay(p, s)
		planned = append(planned, entry)
	}
	return planned
}

func stay(p phases.Phase, s phases.Settings) (steps string, least phases.Duration) {
	ramp := func(r phases.Ramp) (string, phases.Duration) {
		text := ""
		for i, step := range r.Steps {
			if i > 0 {
				text += ", "
			}
			text += step.String()
		}
		return text + " %", r.Over
	}
	switch p {
	case phases.ShadowWrite:
		return "", s.ShadowWrite.For
	case phases.DualRead:
		return ramp(s.DualRead)
	case phases.Cutover:
		return ramp(s.Cutover)
	case phases.Grace:
		return "", s.Grace.For
	case phases.Retain:
		return "", s.Retain.For
	default:
		return "", 0
	}
}

func rollbackWord(p phases.Phase, s phases.Settings) string {
	reversible := s.Retain.Reversible == nil || *s.Retain.Reversible
	return string(phases.ClassOf(p, reversible, 0).Class)
}

func (c *cli) printPlan(p *plan) {
	c.printChecks(p.Checks)
	if len(p.Fields) > 0 {
		rows := [][]string{{"FIELD", "TYPE", "KIND", "IN THE TARGET"}}
		for _, f := range p.Fields {
			rows = append(rows, []string{f.Name, f.Type, string(f.Kind), f.Target})
		}
		c.printf("\n")
		c.table(rows)
	}
	c.printf("\n")
	rows := [][]string{{"PHASE", "STEPS", "AT LEAST", "ROLLBACK", "GATES ON THE WAY IN"}}
	for _, ph := range p.Phases {
		least := "-"
		if ph.AtLeast > 0 {
			least = ph.AtLeast.String()
		}
		rows = append(rows, []string{string(ph.Phase), orDash(ph.Steps), least, ph.Rollback, orDash(join(ph.Gates))})
	}
	c.table(rows)
	c.printf("\n%s, %s, %d refused\n", counted(len(p.Checks), "check"), counted(p.Warnings, "warning"), p.Refused)
}

func (c *cli) printChecks(checks []store.Check) {
	marks := map[store.CheckResult]string{
		store.Good:    c.paint(c.out, green, "ok     "),
		store.Warned:  c.paint(c.out, yellow, "warning"),
		store.Refused: c.paint(c.out, red, "refused"),
	}
	for _, check := range checks {
		c.printf("%s  %s: %s\n", marks[check.Result], check.Name, check.Detail)
		if !check.Hint.IsZero() && check.Result != store.Good {
			c.printf("         try: %s\n", c.given.text(check.Hint))
		}
	}
}

func newDoctor(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "Check settings, state database and stores of a running migration",
		Long: `Makes the checks of plan again and adds what only a running migration can show:
lapsed leases, journalled keys, an interrupted fence, a description that differs
from the applied one. Exits with 2 if anything must be mended.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			p := &plan{}
			var m *migration.Config
			if c.settings.descriptionFile() != "" {
				var err error
				if m, err = c.load(); err != nil {
					return err
				}
				p = c.examine(ctx, m)
			} else if url, err := c.settings.stateURL(); err != nil {
				p.refuse("state", err)
			} else {
				p.add("state", state.Check(ctx, url))
			}
			if store, err := c.openState(ctx); err == nil {
				defer store.Close()
				if all, err := store.List(ctx); err == nil {
					for _, st := range all {
						p.add(st.Migration, c.symptoms(ctx, store, st, m))
					}
				}
			}
			if err := c.show(p, func() { c.printChecks(p.Checks) }); err != nil {
				return err
			}
			return p.verdict()
		},
	}
}

// symptoms are the signs of trouble that the state shows.
func (c *cli) symptoms(ctx context.Context, db *state.Store, st phases.Standing, m *migration.Config) []store.Check {
	var found []store.Check
	warn := func(name, detail string, h hint.Hint) {
		found = append(found, store.Check{Name: name, Result: store.Warned, Detail: detail, Hint: h})
	}
	e, err := db.Evidence(ctx, st.Migration)
	if err != nil {
		return []store.Check{refusal("evidence", err)}
	}
	if st.Lost != nil {
		found = append(found, store.Check{Name: "state-whole", Result: store.Refused, Detail: st.Lost.Tell(st.Route), Hint: phases.StateLossHint()})
	}
	for _, instance := range e.Fleet.Lapsed {
		warn("fleet", "the lease of "+instance+" ran out without leaving", phases.EvictHint(instance))
	}
	if e.Fleet.Behind > 0 && e.Now.Sub(st.RouteSince) > time.Minute {
		warn("fleet", fmt.Sprintf("%d instances have not acknowledged epoch %d for %s", e.Fleet.Behind, st.Route.Epoch, span(e.Now.Sub(st.RouteSince))), hint.Hint{Do: hint.FleetList})
	}
	if st.JournalKeys > 0 {
		warn("journal", fmt.Sprintf("%s keys are known to be behind in the target", count(st.JournalKeys)), hint.Hint{Do: hint.ReconcileRepair})
	}
	if st.Route.Phase.Passing() || st.Attempt != "" && st.Route.Phase == phases.Grace {
		found = append(found, store.Check{
			Name: "fence", Result: store.Refused, Detail: "legacy may refuse writes: a command is moving authority, or was interrupted; the route is " + st.Route.String(),
			Hint: hint.Hint{Do: hint.Advance, Text: "which resumes it, or " + c.given.commandLine(hint.Hint{Do: hint.RollbackToGrace}) + ", which undoes it"},
		})
	}
	if m != nil && m.Name == st.Migration && m.Hash() != st.ConfigHash {
		warn("description", "the file differs from what was applied", hint.Hint{Do: hint.Apply})
	}
	if _, err := db.VerifyHistory(ctx, st.Migration); err != nil {
		found = append(found, refusal("history", err))
	}
	if len(found) == 0 {
		found = append(found, store.Check{Name: "standing", Result: store.Good, Detail: st.Route.String() + ", nothing wrong to be seen"})
	}
	return found
}
