package preflight

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/humanize"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/store"
)

// symptoms are the problems that the state shows of one migration. m is the migration file
// on this machine, which may be another migration's; nil: there is none. own are the checks that this command has
// made of its stores.
func symptoms(ctx context.Context, db *state.Store, st phases.Status, m *migration.Config, own []store.Check) []store.Check {
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
		warn("fleet", fmt.Sprintf("%s not acknowledged epoch %d for %s", humanize.Counted(e.Fleet.Behind, "instance")+humanize.Either(e.Fleet.Behind, " has", " have"), st.Route.Epoch, humanize.Span(e.Now.Sub(st.RouteSince))), hint.Hint{Do: hint.FleetList})
	}
	if st.JournalKeys > 0 {
		warn("journal", fmt.Sprintf("%s journaled: the target is behind for %s", humanize.Counted(st.JournalKeys, "key")+humanize.Either(st.JournalKeys, " is", " are"), humanize.Either(st.JournalKeys, "it", "them")), hint.Hint{Do: hint.ReconcileRepair})
	}
	if st.Route.Phase.Passing() || st.Attempt != "" && st.Route.Phase == phases.Grace {
		found = append(found, store.Check{
			Name: "fence", Result: store.Refused, Detail: "legacy may refuse writes: a command is moving authority, or was interrupted; the route is " + st.Route.String(),
			Hint: hint.Hint{Do: hint.Advance, Text: "which resumes it; a rollback to grace undoes it"},
		})
	}
	if p := st.Route.Phase; p != phases.Legacy && p != phases.Complete {
		switch led, err := db.Led(ctx, state.LeaderName(st.Migration)); {
		case err != nil:
			found = append(found, refusal("daemon", err))
		case !led:
			warn("daemon", "no daemon leads: nothing is repaired or checked again, no trigger can roll back, and no ramp advances", hint.Hint{Do: hint.Serve})
		}
		found = append(found, repeated(ctx, db, st, own)...)
	}
	if waiting, err := db.WaitingMessages(ctx, st.Migration); err != nil {
		found = append(found, refusal("webhooks", err))
	} else if c := waiting.Check(); c.Result != store.Good {
		warn("webhooks", c.Detail, c.Hint)
	}
	if f := e.Fault; f != nil {
		warn("fault", fmt.Sprintf("a fault is injected for a drill until %s: %s", f.Until.UTC().Format(time.RFC3339), f),
			hint.Hint{Do: hint.DrillLift, Text: "if no drill is running"})
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
	if c := e.Capture; c != nil {
		switch {
		case c.Lost != "":
			found = append(found, store.Check{Name: "capture", Result: store.Refused, Detail: c.Lost, Hint: c.LostHint()})
		case c.Slot != "" && !st.Route.Phase.Captured():
			warn("capture", "legacy still has the replication slot "+c.Slot+", which is needed no longer", hint.Hint{Do: hint.Serve, Text: "which removes it"})
		case c.Slot != "" && !c.Runs(e.Now):
			warn("capture", fmt.Sprintf("no process captures changes, and legacy's server keeps its log (%s when last seen, %s): %s",
				humanize.Bytes(c.HeldBytes), humanize.Ago(e.Now, c.Reported), cmp.Or(c.Error, "no daemon reports")), hint.Hint{Do: hint.Serve})
		case c.Error != "":
			warn("capture", "change capture does not advance: "+c.Error, hint.Hint{})
		case c.Slot != "" && c.LimitBytes > 0 && c.HeldBytes > c.LimitBytes/2:
			warn("capture", fmt.Sprintf("legacy's server keeps %s of log for the slot, which is given up at %s (%s)", humanize.Bytes(c.HeldBytes), humanize.Bytes(c.LimitBytes), c.LimitBy), hint.Hint{})
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
	if !slices.ContainsFunc(found, func(c store.Check) bool { return c.Result != store.Good }) {
		found = append(found, store.Check{Name: "status", Result: store.Good, Detail: st.Route.String() +
			", no symptom in what the state has of losses, fleet, journal, fence, daemon, webhooks, parts, writers that bypass, change capture, columns and history"})
	}
	return found
}

// lookedLately is how old the daemon's last look may be: it looks every minute.
const lookedLately = 5 * time.Minute

// repeated is what the leading daemon saw when it last repeated the checks, where it is not what this command has seen:
// the daemon's role and network may be others.
func repeated(ctx context.Context, db *state.Store, st phases.Status, own []store.Check) (found []store.Check) {
	seen, now, err := db.Checks(ctx, st.Migration)
	if err != nil {
		return []store.Check{refusal("daemon-checks", err)}
	}
	if len(seen) == 0 {
		return []store.Check{{Name: "daemon-checks", Result: store.Unchecked, Detail: "no daemon has looked at the servers yet", Hint: hint.Hint{Do: hint.Serve}}}
	}
	good, last := 0, seen[0].Looked
	for _, c := range seen {
		if c.Looked.After(last) {
			last = c.Looked
		}
	}
	for _, c := range seen {
		if c.Result == store.Good {
			good++
			continue
		}
		if slices.ContainsFunc(own, func(o store.Check) bool { return o.Name == c.Name && o.Result == c.Result }) && !c.Worse() {
			continue
		}
		one := c.Check
		one.Name = "daemon saw " + one.Name
		one.Detail += fmt.Sprintf(" (%s, since %s)", humanize.Ago(now, c.Looked), humanize.Ago(now, c.Since))
		if c.Worse() {
			one.Detail += fmt.Sprintf("; it was %s when the migration file was applied", c.Applied)
		}
		found = append(found, one)
	}
	if age := now.Sub(last); age > lookedLately {
		return append(found, store.Check{Name: "daemon-checks", Result: store.Unchecked, Detail: "the servers were last looked at by a daemon " + humanize.Ago(now, last), Hint: hint.Hint{Do: hint.Serve}})
	}
	return append(found, store.Check{Name: "daemon-checks", Result: store.Good, Detail: fmt.Sprintf("%d of %d repeated checks are ok, %s", good, len(seen), humanize.Ago(now, last))})
}
