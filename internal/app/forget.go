package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/stranglerfig/migrator/internal/failpoint"
	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// Forget are the options of a migration's end.
type Forget struct {
	DryRun   bool
	Records  bool // delete the target's records too
	SetAside bool // drop records that returns have set aside
	Orphan   bool // the state database that had the migration no longer exists
	Reason   string
}

// Forgotten is what a migration has, or had, in each store.
type Forgotten struct {
	Migration string        `json:"migration"`
	Forgotten bool          `json:"forgotten"`         // false after a dry run
	Before    bool          `json:"before,omitempty"`  // it was forgotten before
	Records   int64         `json:"records,omitempty"` // of the target, that were deleted
	Target    []store.Trace `json:"target"`
	Legacy    []store.Trace `json:"legacy"`
	State     []store.Trace `json:"state"`
}

// forgetting is a migration that is being forgotten.
type forgetting struct {
	o              Forget
	st             *state.Store
	m              *migration.Config
	schema         *record.Schema
	known          bool // the state has the migration
	phase          phases.Phase
	owner          string
	target, legacy store.Forgetter // nil: the store keeps nothing
}

// ForgetMigration removes a migration from both stores and the state, or lists what that would remove. confirm
// is called with the list before anything is changed. Each step can be repeated: after a crash at any
// point another call completes it, and one more changes nothing. file is where m was read from.
func ForgetMigration(ctx context.Context, st *state.Store, m *migration.Config, file string, o Forget, confirm func(Forgotten) error) (f Forgotten, err error) {
	w := &forgetting{o: o, st: st, m: m}
	f = Forgotten{Migration: m.Name, Target: []store.Trace{}, Legacy: []store.Trace{}, State: []store.Trace{}}
	if f.Before, err = w.look(ctx, file); err != nil || f.Before {
		f.Forgotten = f.Before
		return f, err
	}
	defer w.close()
	if err := w.open(ctx); err != nil {
		return f, err
	}
	if err := w.list(ctx, &f); err != nil {
		return f, err
	}
	if o.DryRun {
		return f, nil
	}
	for _, t := range append(append([]store.Trace{}, f.Target...), f.Legacy...) {
		if t.Refused != "" {
			return f, refuse("%s", t.Refused)
		}
	}
	if err := confirm(f); err != nil {
		return f, err
	}
	if w.known {
		_, release, err := st.BeginForget(ctx, m.Name)
		if errors.As(err, new(*state.InUseError)) {
			return f, &NotYetError{err}
		}
		if err != nil {
			return f, err
		}
		defer release()
	}
	if err := w.forget(ctx, &f); err != nil {
		return f, err
	}
	f.Forgotten = true
	return f, nil
}

// look reads what the state knows. before: it was forgotten, and nothing is left to do.
func (w *forgetting) look(ctx context.Context, file string) (before bool, err error) {
	name := w.m.Name
	e, applied, err := w.st.Open(ctx, name)
	switch {
	case errors.Is(err, state.ErrUnknownMigration):
		at, failed := w.st.Forgotten(ctx, name)
		switch {
		case failed != nil:
			return false, failed
		case w.o.Orphan:
			return false, nil
		case !at.IsZero():
			return true, nil
		}
		return false, refuseHint(hint.Hint{Do: hint.Forget, Of: []string{name}, Text: "as an orphan, if its state database no longer exists"}, "the state database has no migration %s, and has forgotten none", name)
	case err != nil:
		return false, err
	case w.o.Orphan:
		return false, refuse("the state database has the migration %s: it is no orphan", name)
	}
	if w.m, err = withColumns(w.m, applied); err != nil {
		return false, err
	}
	if err := checkHash(w.m, file, applied.ConfigHash); err != nil {
		return false, err
	}
	if err := state.Forgettable(e); err != nil && !w.o.DryRun {
		return false, &InputError{err}
	}
	w.known, w.phase = true, e.Status.Route.Phase
	if w.o.Records && w.phase == phases.Complete {
		return false, refuse("%s is complete: the target's records are the only ones that are current", name)
	}
	w.schema = new(record.Schema)
	if err := json.Unmarshal(applied.Schema, w.schema); err != nil {
		return false, fmt.Errorf("the applied schema of %s can't be read: %w", name, err)
	}
	return false, nil
}

func (w *forgetting) open(ctx context.Context) (err error) {
	if w.owner, err = w.st.Owner(ctx, w.m.Name); err != nil {
		return err
	}
	if w.schema == nil {
		legacy, err := w.m.OpenLegacy(ctx)
		if err != nil {
			return err
		}
		w.schema = legacy.Schema()
		legacy.Close()
	}
	o := store.ForgetOptions{Owner: w.owner, AnyOwner: w.o.Orphan, Fence: w.phase == phases.Complete, SetAside: w.o.SetAside}
	if p, ok := w.m.Target.Part.(migration.ForgettingPart); ok {
		if w.target, err = p.OpenForget(ctx, w.m, w.schema, o); err != nil {
			return err
		}
	}
	if p, ok := w.m.Legacy.Part.(migration.ForgettingPart); ok {
		w.legacy, err = p.OpenForget(ctx, w.m, w.schema, o)
	}
	return err
}

func (w *forgetting) close() {
	for _, f := range []store.Forgetter{w.target, w.legacy} {
		if f != nil {
			_ = f.Close()
		}
	}
}

func (w *forgetting) list(ctx context.Context, f *Forgotten) (err error) {
	for _, side := range []struct {
		of   store.Forgetter
		into *[]store.Trace
	}{{w.target, &f.Target}, {w.legacy, &f.Legacy}} {
		if side.of == nil {
			continue
		}
		list, err := side.of.Traces(ctx)
		if err != nil {
			return err
		}
		*side.into = append(*side.into, list...)
	}
	if w.known {
		f.State, err = w.st.Traces(ctx, w.m.Name)
	}
	return err
}

// forget removes the target's part first: its owner's mark is gone only when nothing else of the
// migration is left there. The state is last: it knows that there is something to remove.
func (w *forgetting) forget(ctx context.Context, f *Forgotten) (err error) {
	// Without a trace an earlier call has removed the versions, which tell the records; it has deleted
	// them before.
	if w.o.Records && len(f.Target) > 0 {
		if f.Records, err = w.deleteRecords(ctx); err != nil {
			return err
		}
		failpoint.Here("forget.records")
	}
	if w.target != nil {
		if err := w.target.Forget(ctx); err != nil {
			return err
		}
		failpoint.Here("forget.target")
	}
	if w.legacy != nil {
		if w.known {
			era, err := w.legacy.Era(ctx)
			if err != nil {
				return err
			}
			if err := w.st.NoteForgetEra(ctx, w.m.Name, era); err != nil {
				return err
			}
			failpoint.Here("forget.era")
		}
		if err := w.legacy.Forget(ctx); err != nil {
			return err
		}
	}
	if !w.known {
		return nil
	}
	return w.st.Forget(ctx, w.m.Name, w.o.Reason, f)
}

// deleteRecords deletes the records that the migration has copied to the target. What another program
// has written there has no version, and stays; so does a record of a migration that was forgotten before,
// unless this one has taken it over: its version is of an era before.
func (w *forgetting) deleteRecords(ctx context.Context) (deleted int64, err error) {
	target, err := w.m.OpenTarget(ctx, w.schema)
	if err != nil {
		return 0, err
	}
	defer func() { _ = target.Close() }()
	// [one-owner]: what another migration has taken over is its own.
	if marker, ok := target.(store.Marker); ok {
		others, err := marker.Owners(ctx, w.owner)
		if err != nil {
			return 0, err
		}
		if len(others) > 0 && !w.o.Orphan {
			return 0, refuse("the target's keys belong to another migration now: %s", others[0])
		}
	}
	before := uint32(0) // of an orphan nothing is known
	if w.known {
		if before, err = w.st.EraBefore(ctx, w.m.Name); err != nil {
			return 0, err
		}
	}
	err = target.Scan(ctx, func(entries []store.Entry) error {
		var writes []store.Write
		for _, e := range entries {
			if e.Presence == store.Live && e.Key != "" && e.Version.Era() > before {
				// Nothing else writes: no instance has a lease, and none can join.
				version := e.Version
				writes = append(writes, store.Write{Key: e.Key, Deleted: true, Version: version, Only: &version, Overwrite: true})
			}
		}
		if len(writes) == 0 {
			return nil
		}
		results, err := target.Apply(ctx, writes)
		if err != nil {
			return err
		}
		for _, r := range results {
			switch {
			case r.Err != nil:
				return r.Err
			case r.Outcome == store.Applied:
				deleted++
			}
		}
		return nil
	})
	if err != nil {
		return deleted, fmt.Errorf("delete the target's records: %w", err)
	}
	return deleted, nil
}

// raiseForgotten begins an era of legacy above those of forgotten migrations: what these left in the
// target would refuse later writes as older. It does so before the migration is recorded, and again at
// each apply in legacy: the present era is above then.
func raiseForgotten(ctx context.Context, st *state.Store, name string, legacy store.Legacy) error {
	raiser, ok := legacy.(store.EraRaiser)
	era, err := st.ForgottenEra(ctx)
	if err != nil || era == 0 || !ok {
		return err
	}
	status, err := st.Status(ctx, name)
	if err == nil && status.Route.Phase != phases.Legacy {
		return nil
	}
	if err != nil && !errors.Is(err, state.ErrUnknownMigration) {
		return err
	}
	_, err = raiser.RaiseEra(ctx, record.MakeVersion(era, 0, 0))
	return err
}
