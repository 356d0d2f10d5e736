//go:build unix

package torture

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/stranglerfig/migrator/phases"
)

// operator moves the migration forward and back at random, and its commands are killed.
type operator struct {
	w      *world
	random *rand.Rand
	faults bool // its commands are killed and frozen too
}

func (o *operator) run(ctx context.Context) error {
	for pause(ctx, time.Duration(o.random.IntN(150))*time.Millisecond) {
		dice := o.random.IntN(100)
		switch {
		case dice < 75:
			o.advanceOne(ctx)
		case dice < 79:
			o.w.measureRollback(ctx, true)
		case dice < 83:
			o.exec(ctx, "phase rollback --yes --reason torture")
		case dice < 86:
			o.exec(ctx, "phase rollback --yes --to "+[]string{"legacy", "shadow-write", "dual-read", "cutover"}[o.random.IntN(4)]+" --reason torture")
		case dice < 91:
			o.exec(ctx, "reconcile run --full --repair")
		case dice < 94:
			o.exec(ctx, "reconcile run --sample 100 --repair")
		case dice < 97:
			o.exec(ctx, "backfill run")
		default: // never to complete, which has no rollback
			o.exec(ctx, "phase advance --to "+string(phases.Order[1+o.random.IntN(phases.Retain.Position())])+" --reason torture --settle 5s")
		}
	}
	return nil
}

// advanceTo moves to a phase while there are no faults, so that the faults begin there.
func (o *operator) advanceTo(ctx context.Context, to phases.Phase) {
	ctx, cancel := context.WithTimeout(ctx, 40*time.Second)
	defer cancel()
	for ctx.Err() == nil {
		e, err := o.w.state.Snapshot(ctx, migrationName)
		if err != nil {
			pause(ctx, 50*time.Millisecond)
			continue
		}
		o.evict(ctx, e.Fleet)
		switch at := e.Status.Route.Phase; {
		case at == phases.Retain && to != at:
			o.exec(ctx, "phase rollback --yes --reason torture")
		case at.Position() >= to.Position() && !at.Passing():
			return
		default:
			o.advanceOne(ctx)
		}
		pause(ctx, 20*time.Millisecond)
	}
}

// exec runs a command, perhaps not to its end.
func (o *operator) exec(ctx context.Context, line string) ran {
	var kill, freeze time.Duration
	due := time.Duration(30+o.random.IntN(500)) * time.Millisecond
	long := time.Duration(1000+o.random.IntN(2000)) * time.Millisecond
	switch dice := o.random.IntN(100); {
	case !o.faults:
	case dice < 12:
		kill = due
	case dice < 16:
		kill, freeze = due, long
	}
	return o.w.migrator(ctx, kill, freeze, line)
}

// remedies are an operator's commands for a closed gate.
var remedies = map[string][]string{
	"backfill-done":   {"backfill run"},
	"journal-empty":   {"reconcile run --full --repair"},
	"no-lost-queue":   {"reconcile run --full --repair", "reconcile run --full"},
	"reconcile-clean": {"reconcile run --full --repair", "reconcile run --full"},
}

// advanceOne takes the next step, after the remedies for its gates.
func (o *operator) advanceOne(ctx context.Context) {
	bounded, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	e, err := o.w.state.Snapshot(bounded, migrationName)
	if err != nil {
		return
	}
	o.evict(ctx, e.Fleet)
	if e.Latch != nil {
		o.exec(ctx, "phase acknowledge --reason torture")
	}
	at := e.Status.Route
	switch at.Phase {
	case phases.Lifting, phases.Returning:
		o.exec(ctx, "phase rollback --yes --reason torture")
		return
	case phases.Retain: // complete has no rollback
		if o.random.IntN(3) == 0 {
			o.exec(ctx, "phase rollback --yes --reason torture")
		}
		return
	}
	next, err := settings().Next(at)
	if err != nil {
		return
	}
	var needed []string
	for _, gate := range phases.Closed(phases.Gates(next, settings(), e)) {
		for _, line := range remedies[gate.Gate] {
			if !slices.Contains(needed, line) {
				needed = append(needed, line)
			}
		}
	}
	for _, line := range needed {
		if r := o.exec(ctx, line); r.code != 0 && r.code != 8 {
			return
		}
	}
	o.exec(ctx, "phase advance --to "+string(next.Phase)+" --reason torture --settle 5s")
}

// evict evicts those instances that have certainly ended.
func (o *operator) evict(ctx context.Context, fleet phases.Fleet) {
	for _, name := range fleet.Lapsed {
		if o.w.confirmedDead(name) {
			o.exec(ctx, "fleet evict "+name+" --reason killed")
		}
	}
}

// settings are those of testdata/cells.yaml.
func settings() phases.Settings {
	s := phases.Settings{}
	s.DualRead.Steps = []phases.Percent{phases.All}
	s.Cutover.Steps = []phases.Percent{phases.All / 2, phases.All}
	return s
}
