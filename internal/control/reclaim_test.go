package control_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/dual/pgfleet"
	"github.com/stranglerfig/migrator/internal/control"
	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/test/statetest"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// olderState replaces the state database by one with nothing past the given phase, as a
// restored older backup would.
func (b *bench) olderState(at phases.Phase) {
	b.t.Helper()
	url := statetest.URL(b.t)
	applied, err := b.state.Config(b.ctx, "items")
	b.check(err)
	b.state, err = state.Open(b.ctx, url)
	b.check(err)
	b.t.Cleanup(b.state.Close)
	_, _, err = b.state.Apply(b.ctx, applied)
	b.check(err)
	b.walk(at)
}

// retained takes the migration through the fence and writes two keys as an
// instance in retain does: one changed, one deleted, one new. Only the first is in
// the return journal.
func (b *bench) retained() phases.Route {
	b.t.Helper()
	b.walk(phases.DualRead)
	b.interlocked()
	b.walk(phases.Grace)
	step, err := b.controller().Advance(b.ctx, fenceGates())
	b.check(err)
	_, era, err := b.legacy.FenceState(b.ctx)
	b.check(err)
	name := func(id, text string) record.Record {
		return record.Record{{State: record.Present, Text: id}, {State: record.Present, Text: text}}
	}
	results, err := b.target.Apply(b.ctx, []store.Write{
		{Key: "1", Record: name("1", "changed in retain"), Version: record.MakeVersion(era, 0, 1), Keep: true},
		{Key: "2", Deleted: true, Version: record.MakeVersion(era, 0, 1), Keep: true},
		{Key: "99", Record: name("99", "new in retain"), Version: record.MakeVersion(era, 0, 1), Keep: true},
	})
	b.check(err)
	for _, r := range results {
		if r.Outcome != store.Applied {
			b.t.Fatalf("%+v", r)
		}
	}
	return step.To
}

// does is the action that an error's hint names.
func does(err error) hint.Action {
	h, _ := hint.Of(err)
	return h.Do
}

// TestReclaimBehindAnUnrecordedFenceReplaysEveryWrite: the state's route is dual-read,
// legacy was fenced long ago, and the return journal is missing with the rest.
func TestReclaimBehindAnUnrecordedFenceReplaysEveryWrite(t *testing.T) {
	t.Parallel()
	for _, older := range []phases.Phase{phases.Legacy, phases.DualRead, phases.Grace} {
		t.Run(string(older), func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			at := b.retained()
			b.olderState(older)
			f, grant := b.joined("witness", time.Minute)
			b.check(f.ReportStateLoss(b.ctx, at))

			for _, back := range []phases.Phase{phases.ShadowWrite, phases.Legacy} {
				_, err := b.controller().Rollback(b.ctx, control.Rollback{To: back, Reason: "test", Settle: 50 * time.Millisecond})
				if older != phases.Legacy && does(err) != hint.Reclaim {
					t.Errorf("a rollback to %s: %v", back, err)
				}
			}
			if _, err := b.controller().Advance(b.ctx, control.Advance{Reason: "test"}); does(err) != hint.Reclaim {
				t.Errorf("an advance: %v", err)
			}

			follows := make(chan error, 1)
			go func() { follows <- b.follow(f, grant, phases.Grace) }()
			moves, err := b.controller().Reclaim(b.ctx, "test", time.Minute)
			b.check(err)
			b.check(<-follows)
			if len(moves) != 2 || moves[0].Phase != phases.Returning || moves[0].Epoch != at.Epoch+1 || moves[1].Phase != phases.Grace {
				t.Errorf("%v", moves)
			}
			if attempt, _, err := b.legacy.FenceState(b.ctx); err != nil || attempt != "" {
				t.Errorf("the fence of %q still stands (%v)", attempt, err)
			}
			b.check(b.sql(`DO $$ BEGIN ASSERT (SELECT string_agg(id || name, ',' ORDER BY id) FROM items WHERE id IN (1, 2, 3, 99))
				= '1changed in retain,3item 3,99new in retain'; END $$`))
			st, err := b.state.Status(b.ctx, "items")
			b.check(err)
			if st.ReturnJournalLost || st.StateLoss != nil || st.Dirty.IsZero() {
				t.Errorf("%+v", st)
			}
		})
	}
}

// follow renews as an instance does that keeps up, until it has come to the phase by a move.
func (b *bench) follow(f *pgfleet.Fleet, grant dual.Grant, until phases.Phase) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	acknowledged := grant.Route.Epoch
	for range tick.C {
		g, err := f.Renew(b.ctx, grant.Lease, acknowledged)
		if err != nil || g.Route.Phase == until && g.Route.Epoch > grant.Route.Epoch && acknowledged == g.Route.Epoch {
			return err
		}
		acknowledged = g.Route.Epoch
	}
	return nil
}

// TestReclaimOfAFenceThatWasLifted: the state's route is before or behind the fence, which
// has been lifted since.
func TestReclaimOfAFenceThatWasLifted(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.walk(phases.DualRead)
	b.interlocked()
	b.walk(phases.Grace)
	st, err := b.state.Status(b.ctx, "items")
	b.check(err)
	b.check(b.state.Intend(b.ctx, "items", st.Route, "a1", agree))
	_, err = b.legacy.RaiseFence(b.ctx, "a1", time.Minute)
	b.check(err)
	_, err = b.legacy.LiftFence(b.ctx, "a1", time.Minute)
	b.check(err)
	moves, err := b.controller().Reclaim(b.ctx, "test", time.Minute)
	if err != nil || len(moves) != 1 || moves[0].Phase != phases.DualRead {
		t.Errorf("noted: %v, %v", moves, err)
	}
	if _, err := b.legacy.RaiseFence(b.ctx, "a1", time.Minute); err == nil {
		t.Error("the attempt raised its fence after the reclaim")
	}

	// In retain no process knows which store has which writes.
	b.walk(phases.Grace)
	b.retainedByHand()
	if moves, err := b.controller().Reclaim(b.ctx, "test", time.Minute); err == nil || !strings.Contains(err.Error(), "legacy takes writes again") {
		t.Errorf("retain: %v, %v", moves, err)
	}
}

// retainedByHand moves the state to retain with no fence on legacy.
func (b *bench) retainedByHand() {
	b.t.Helper()
	for _, to := range []phases.Phase{phases.Fenced, phases.Retain} {
		_, err := b.state.Transition(b.ctx, "items", func(e phases.Snapshot) (phases.Move, error) {
			return phases.Move{From: e.Status.Route, To: phases.Route{Phase: to}, Cause: phases.CauseFence, Attempt: "a2", FenceEra: 9}, nil
		})
		b.check(err)
	}
}

func agree(phases.Snapshot) error { return nil }

// TestReclaimOfAReturnThatHadEnded: the state goes back to a moment of a return that ended since. The
// fence is down with every key copied, and reads must not come from the target: what the journal
// had since then is lost too.
func TestReclaimOfAReturnThatHadEnded(t *testing.T) {
	t.Parallel()
	b := inRetain(t)
	attempt := b.snapshot().Status.Attempt
	gone := errors.New("stopped")
	ctl := b.controller()
	ctl.Legacy = interferedFence{Legacy: b.legacy}
	n := 0
	ctl.Whole = func(context.Context) error {
		if n++; n == 3 { // nothing is marked yet
			return gone
		}
		return nil
	}
	if _, err := ctl.Rollback(b.ctx, control.Rollback{Reason: "test"}); !errors.Is(err, gone) {
		t.Fatal(err)
	}
	_, err := b.legacy.LiftFence(b.ctx, attempt, time.Minute) // what the rest of the return did
	b.check(err)
	if _, err := b.rollsBack(0); does(err) != hint.Reclaim {
		t.Errorf("a rollback: %v", err)
	}
	moves, err := b.controller().Reclaim(b.ctx, "test", time.Minute)
	b.check(err)
	if len(moves) != 3 || moves[2].Phase != phases.DualRead {
		t.Errorf("%v", moves)
	}
	b.consistent(phases.DualRead)
}

// TestReclaimSetsAside: the state has lost the return journal, and legacy refuses a row that the scan
// finds. It can be set aside.
func TestReclaimSetsAside(t *testing.T) {
	t.Parallel()
	b := constrained(t, `ALTER TABLE items ADD CONSTRAINT high CHECK (name <> 'low')`)
	b.named("1 fine", "4 low", "5 low")
	conn, err := pgx.Connect(b.ctx, b.stateURL)
	b.check(err)
	defer func() { _ = conn.Close(b.ctx) }()
	_, err = conn.Exec(b.ctx, `DELETE FROM migrator.return_journal WHERE key <> '5'; SELECT migrator.suspect_state('items', 'test')`)
	b.check(err)
	for range 2 {
		var refused *control.RefusedError
		if _, err := b.controller().Reclaim(b.ctx, "test", time.Minute); !errors.As(err, &refused) || len(refused.Refused) != 2 {
			t.Fatal(err)
		}
	}
	_, err = b.controller().Rollback(b.ctx, control.Rollback{Reason: "test", SetAside: true})
	b.check(err)
	b.keepsName(map[record.Key]string{"1": "fine", "4": "item 4", "5": "item 5"})
	if st := b.snapshot().Status; st.SetAside != 2 || st.ReturnJournalLost || st.Route.Phase != phases.DualRead {
		t.Errorf("%+v", st)
	}
}
