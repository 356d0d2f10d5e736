package preflight

import (
	"context"
	"fmt"
	"time"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/humanize"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/store"
)

// symptoms are the problems that the state shows of one migration. m is the migration file
// on this machine, which may be another migration's; nil: there is none.
func symptoms(ctx context.Context, db *state.Store, st phases.Status, m *migration.Config) []store.Check {
	var found []store.Check
	warn := func(name, detail string, h hint.Hint) {
		found = append(found, store.Check{Name: name, Result: store.Warned, Detail: detail, Hint: h})
	}
	e, err := db.Snapshot(ctx, st.Migration)
	if err != nil {
		return []store.Check{refusal("evidence", err)}
	}
	if st.StateLoss != nil {
		found = append(found, store.Check{Name: "state-whole", Result: store.Refused, Detail: st.StateLoss.Describe(st.Route), Hint: phases.StateLossHint()})
	}
	if st.TargetLost != "" {
		found = append(found, store.Check{Name: "target-mark", Result: store.Refused, Detail: st.TargetLost, Hint: store.MarkHint(st.Migration, st.TargetLost)})
	}
	for _, instance := range e.Fleet.Lapsed {
		warn("fleet", "the lease of "+instance+" ran out without leaving", phases.EvictHint(instance))
	}
	if e.Fleet.Behind > 0 && e.Now.Sub(st.RouteSince) > time.Minute {
		warn("fleet", fmt.Sprintf("%d instances have not acknowledged epoch %d for %s", e.Fleet.Behind, st.Route.Epoch, humanize.Span(e.Now.Sub(st.RouteSince))), hint.Hint{Do: hint.FleetList})
	}
	if st.JournalKeys > 0 {
		warn("journal", fmt.Sprintf("%s keys are journaled: the target is behind for them", humanize.Count(st.JournalKeys)), hint.Hint{Do: hint.ReconcileRepair})
	}
	if st.Route.Phase.Passing() || st.Attempt != "" && st.Route.Phase == phases.Grace {
		found = append(found, store.Check{
			Name: "fence", Result: store.Refused, Detail: "legacy may refuse writes: a command is moving authority, or was interrupted; the route is " + st.Route.String(),
			Hint: hint.Hint{Do: hint.Advance, Text: "which resumes it; a rollback to grace undoes it"},
		})
	}
	if p := st.Route.Phase; p == phases.Cutover || p == phases.Grace {
		if led, err := db.Led(ctx, state.LeaderName(st.Migration)); err == nil && !led {
			warn("daemon", "no daemon leads: no trigger can roll back, and no ramp advances", hint.Hint{Do: hint.Serve})
		}
	}
	if st.LegacyChanged != "" {
		warn("parts", "legacy's table has changed since it was applied: "+st.LegacyChanged, partsHint)
	}
	if b := e.Bypass; b != nil && st.Route.Phase.Compared() {
		if b.Found() {
			warn("bypass", b.Describe(), phases.BypassHint())
		}
		if b.Why != "" {
			warn("bypass", "writes past the application can't be seen: "+b.Why, hint.Hint{})
		}
	}
	if m != nil && m.Name == st.Migration {
		if check, found := changed(ctx, db, m); found && check.Result != store.Refused { // a refused one is a check of the file
			warn("migration-file", check.Detail, hint.Hint{Do: hint.Apply})
		}
	}
	for _, c := range st.Columns {
		if c.Broken {
			found = append(found, store.Check{Name: "columns", Result: store.Refused, Detail: c.Side + ": " + c.Detail, Hint: phases.ColumnHint(c)})
		} else {
			warn("columns", c.Side+": "+c.Detail, phases.ColumnHint(c))
		}
	}
	for _, instance := range e.Fleet.Other {
		warn("fleet", instance+" moves something else than what is applied", hint.Hint{Do: hint.FleetList, Text: "and restart it"})
	}
	if _, err := db.VerifyHistory(ctx, st.Migration); err != nil {
		found = append(found, refusal("history", err))
	}
	if len(found) == 0 {
		found = append(found, store.Check{Name: "status", Result: store.Good, Detail: st.Route.String() + ", no symptom"})
	}
	return found
}
