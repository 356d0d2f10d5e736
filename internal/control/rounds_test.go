package control_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/dual/pgfleet"
	"github.com/stranglerfig/migrator/internal/control"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// rounding is a controller that copies in rounds also where few keys are journaled.
func (b *bench) rounding() *control.Controller {
	ctl := b.controller()
	ctl.LastRound = 1
	return ctl
}

// era returns the era of what the target has of a key.
func (b *bench) era(key record.Key) uint32 {
	b.t.Helper()
	entries, err := b.target.Get(b.ctx, []record.Key{key})
	b.check(err)
	return entries[0].Version.Era()
}

// beforeStop rolls back, and calls do when returning has just been committed.
func (b *bench) beforeStop(ctx context.Context, ctl *control.Controller, do func()) ([]phases.Route, error) {
	ctl.State = interferedState{State: ctl.State, to: phases.Returning, moved: do}
	return ctl.Rollback(ctx, control.Rollback{Reason: "test"})
}

// Rounds copy to legacy while the application writes. They leave the target as it is and the
// journal whole; the last one copies the rest, and the journal is empty in grace.
func TestRoundsCopyWhileWritesContinue(t *testing.T) {
	t.Parallel()
	b := inRetain(t)
	era := b.snapshot().Status.FenceEra
	ctl := b.rounding()
	once := true
	ctl.Legacy = interferedFence{Legacy: b.legacy, replayed: func() {
		if once { // after the first round has read the target, before it marks
			once = false
			b.named("1 changed again", "7 new in the round")
		}
	}}
	began := time.Now()
	moves, err := b.beforeStop(b.ctx, ctl, func() {
		st := b.snapshot().Status
		if st.ReturnKeys != 5 || st.ReturnRest > 1 {
			t.Errorf("%d of %d keys are left for the stop", st.ReturnRest, st.ReturnKeys)
		}
		// In keys a second: some were copied since then.
		if took := time.Since(began).Seconds(); st.ReturnRate < 1/took {
			t.Errorf("the rate is %g keys a second, within %g seconds", st.ReturnRate, took)
		}
		if got := b.legacyName("100"); got != "born in retain" {
			t.Errorf("legacy has %q under key 100 before the stop", got)
		}
		if got := b.era("100"); got != era {
			t.Errorf("a round has written the target, at era %d", got)
		}
	})
	b.check(err)
	if last := moves[len(moves)-1]; last.Phase != phases.Grace {
		t.Errorf("the rollback ended at %s", last)
	}
	b.consistent(phases.Grace)
	b.keepsName(map[record.Key]string{"1": "changed again", "2": "", "7": "new in the round", "100": "born in retain"})
	if st := b.snapshot().Status; st.ReturnKeys != 0 || st.ReturnRest != 0 {
		t.Errorf("%d keys in the journal, %d to copy", st.ReturnKeys, st.ReturnRest)
	}
	var left int
	b.check(b.state.Pool().QueryRow(b.ctx, `SELECT count(*) FROM migrator.return_journal`).Scan(&left))
	if left != 0 {
		t.Errorf("%d entries are left in the journal", left)
	}
}

// listed puts a key into the return journal, as an instance does before it writes the target. write is
// that write.
func (b *bench) listed(key record.Key, name string, notAfter time.Time) (write func() store.Outcome) {
	b.t.Helper()
	st := b.snapshot().Status
	b.check(pgfleet.New(b.state.Pool(), "items", pgfleet.Options{}).Return(b.ctx, st.Route.Epoch, []record.Key{key}))
	entries, err := b.target.Get(b.ctx, []record.Key{key})
	b.check(err)
	only := entries[0].Version
	version, err := only.Next(st.FenceEra)
	b.check(err)
	return func() store.Outcome {
		b.t.Helper()
		results, err := b.target.Apply(b.ctx, []store.Write{{
			Key: key, Record: record.Record{record.TextValue(string(key)), record.TextValue(name)}, Version: version, Only: &only, NotAfter: notAfter, Keep: true,
		}})
		b.check(err)
		return results[0].Outcome
	}
}

// A write that was listed before a round began can't land after the round has read the target.
func TestARoundWaitsForWritesThatWereListed(t *testing.T) {
	t.Parallel()
	b := inRetain(t)
	now, err := b.target.Now(b.ctx)
	b.check(err)
	write := b.listed("9", "late", now.Add(time.Second))
	ctl := b.rounding()
	tried := false
	ctl.Legacy = interferedFence{Legacy: b.legacy, replayed: func() {
		if tried {
			return
		}
		tried = true
		if got := write(); got != store.Late {
			t.Errorf("the write landed after the round had read the target: %s", got)
		}
	}}
	_, err = ctl.Rollback(b.ctx, control.Rollback{Reason: "test"})
	b.check(err)
	if !tried {
		t.Error("no copy was made")
	}
	b.keepsName(map[record.Key]string{"9": "item 9"})
}

// tickingTarget calls a function before each look at the target's clock.
type tickingTarget struct {
	store.TargetRecords
	look func()
}

func (t tickingTarget) Now(ctx context.Context) (time.Time, error) {
	t.look()
	return t.TargetRecords.Now(ctx)
}

// A key that is listed while a round waits is left to the next one: its write may land after the round
// has read the target.
func TestAKeyListedDuringTheWaitIsNotOfTheRound(t *testing.T) {
	t.Parallel()
	b := inRetain(t)
	ctl := b.rounding()
	looks := 0
	var write func() store.Outcome
	ctl.Target = tickingTarget{TargetRecords: b.target, look: func() {
		if looks++; looks == 2 { // at the end of the wait
			now, err := b.target.Now(b.ctx)
			b.check(err)
			write = b.listed("9", "written after the read", now.Add(time.Minute))
		}
	}}
	once := true
	ctl.Legacy = interferedFence{Legacy: b.legacy, replayed: func() {
		if once {
			once = false
			if got := write(); got != store.Applied {
				t.Errorf("the write: %s", got)
			}
		}
	}}
	_, err := ctl.Rollback(b.ctx, control.Rollback{Reason: "test"})
	b.check(err)
	b.consistent(phases.Grace)
	b.keepsName(map[record.Key]string{"9": "written after the read"})
}

// Legacy may lose its copies: a crash, a failover, a restore. Marks of the former legacy are void.
func TestCopiesThatLegacyLostAreMadeAgain(t *testing.T) {
	t.Parallel()
	b := inRetain(t)
	ctx, cancel := context.WithCancel(b.ctx)
	defer cancel()
	_, err := b.beforeStop(ctx, b.rounding(), cancel)
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	b.consistent(phases.Retain)
	if st := b.snapshot().Status; st.ReturnRest != 0 || st.ReturnKeys != 4 {
		t.Fatalf("%d of %d keys are not marked", st.ReturnRest, st.ReturnKeys)
	}
	b.losesCopies()
	_, err = b.rollsBack(0)
	b.check(err)
	b.returned()
}

// losesCopies leaves legacy as a crash does after which it lacks its last commits.
func (b *bench) losesCopies() {
	b.t.Helper()
	b.check(b.sql(fmt.Sprintf(`DELETE FROM migrator_legacy.alive; SET migrator.attempt = '%s';
		DELETE FROM items WHERE id = 100; UPDATE items SET name = 'older' WHERE id = 1`, b.snapshot().Status.Attempt)))
}

// Legacy crashes after the last copy, before its fence is lifted: that stays, and the next command makes
// the copies again.
func TestNoFenceIsLiftedOverCopiesThatAreGone(t *testing.T) {
	t.Parallel()
	b := inRetain(t)
	ctl := b.controller()
	ctl.Legacy = interferedFence{Legacy: b.legacy, ending: b.losesCopies}
	if _, err := ctl.Rollback(b.ctx, control.Rollback{Reason: "test"}); err == nil {
		t.Error("the fence was lifted")
	}
	b.check(b.controller().Resume(b.ctx))
	b.consistent(phases.Grace)
	b.returned()
}

// While writes wait, a signal leads back to retain. Its era is above that of the keys that the return
// has written to the target.
func TestASignalLeadsBackToRetain(t *testing.T) {
	t.Parallel()
	b := inRetain(t)
	before := b.snapshot().Status
	ctx, cancel := context.WithCancel(b.ctx)
	defer cancel()
	ctl := b.controller()
	ctl.Legacy = interferedFence{Legacy: b.legacy, ending: cancel} // every key is copied and rewritten
	moves, err := ctl.Rollback(ctx, control.Rollback{Reason: "test"})
	if !errors.Is(err, context.Canceled) || len(moves) != 2 || moves[1].Phase != phases.Retain {
		t.Fatalf("%v, %v", moves, err)
	}
	b.consistent(phases.Retain)
	st := b.snapshot().Status
	if st.FenceEra <= before.FenceEra || st.FirstFenceEra != before.FenceEra || st.ReturnKeys != 4 {
		t.Errorf("after it: %+v", st)
	}
	if era := b.era("1"); era > st.FenceEra || era <= before.FenceEra {
		t.Errorf("the target has key 1 at era %d, and the fence is of era %d", era, st.FenceEra)
	}
	b.named("1 after it", "100", "8 for the first time")
	// What legacy has is older than all of that.
	rows, err := b.legacy.LookupLocked(b.ctx, []record.Key{"1", "8"})
	b.check(err)
	for _, row := range rows {
		if row.Version.Era() >= before.FenceEra {
			t.Errorf("key %s of fenced legacy has the version %s", row.Key, row.Version)
		}
	}
	_, err = b.rollsBack(0)
	b.check(err)
	b.consistent(phases.Grace)
	b.keepsName(map[record.Key]string{"1": "after it", "2": "", "100": "", "8": "for the first time"})
}

// gaveUp gives the return up as another command does, and writes in retain.
func (b *bench) gaveUp() {
	b.t.Helper()
	st := b.snapshot().Status
	era, err := b.legacy.RenewFence(b.ctx, st.Attempt)
	b.check(err)
	_, err = b.state.Transition(b.ctx, "items", func(phases.Snapshot) (phases.Move, error) {
		return phases.Move{From: st.Route, To: phases.Route{Phase: phases.Retain}, Cause: phases.CauseRollback, Attempt: st.Attempt, FenceEra: era}, nil
	})
	b.check(err)
	b.named("1 newer", "100 newer still")
}

// A controller that wakes after its return was given up neither copies nor lifts the fence.
func TestAReturnThatWasGivenUpStaysSo(t *testing.T) {
	t.Parallel()
	for name, wakes := range map[string]func(*bench, func()) interferedFence{
		"before a copy":   func(b *bench, f func()) interferedFence { return interferedFence{Legacy: b.legacy, begun: f} },
		"before the lift": func(b *bench, f func()) interferedFence { return interferedFence{Legacy: b.legacy, ending: f} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := inRetain(t)
			ctl := b.controller()
			once := true
			ctl.Legacy = wakes(b, func() {
				if once {
					once = false
					b.gaveUp()
				}
			})
			if _, err := ctl.Rollback(b.ctx, control.Rollback{Reason: "test"}); err == nil {
				t.Error("it went on")
			}
			b.consistent(phases.Retain)
			b.named("5 goes on")
			_, err := b.rollsBack(0)
			b.check(err)
			b.consistent(phases.Grace)
			b.keepsName(map[record.Key]string{"1": "newer", "2": "", "100": "newer still", "5": "goes on"})
		})
	}
}

// What legacy refuses can be set aside: it is kept in legacy's database, and legacy's state counts.
func TestRefusedRowsAreSetAside(t *testing.T) {
	t.Parallel()
	b := constrained(t, `ALTER TABLE items ADD UNIQUE (name), ADD CONSTRAINT high CHECK (name <> 'low')`)
	b.named("1 fine", "2 item 3", "4 low", "5", "6 item 5")
	b.check(b.sql(`CREATE TABLE notes (item bigint REFERENCES items); INSERT INTO notes VALUES (5)`))
	moves, err := b.controller().Rollback(b.ctx, control.Rollback{Reason: "test", SetAside: true})
	b.check(err)
	if last := moves[len(moves)-1]; last.Phase != phases.Grace {
		t.Errorf("the rollback ended at %s", last)
	}
	b.consistent(phases.Grace)
	b.keepsName(map[record.Key]string{"1": "fine", "2": "item 2", "4": "item 4", "5": "item 5", "6": "item 6"})
	st := b.snapshot().Status
	if st.ReturnKeys != 0 || st.SetAside != 4 {
		t.Errorf("after it: %+v", st)
	}
	want := `2 f 23505 items_name_key {"id":"2","name":"item 3"}, 4 f 23514 high {"id":"4","name":"low"}, ` +
		`5 t 23503 notes_item_fkey , 6 f 23505 items_name_key {"id":"6","name":"item 5"}`
	conn, err := pgx.Connect(b.ctx, b.legacyURL)
	b.check(err)
	defer func() { _ = conn.Close(b.ctx) }()
	var got string
	b.check(conn.QueryRow(b.ctx, `SELECT string_agg(convert_from(key, 'UTF8') || ' ' || left(deleted::text, 1) || ' ' || code || ' ' || constraint_name || ' ' ||
		coalesce(record::text, ''), ', ' ORDER BY key) FROM migrator_legacy.set_aside WHERE name = 'items' AND attempt <> ''`).Scan(&got))
	if got != want {
		t.Errorf("set aside: %s\nwant %s", got, want)
	}
	// Reconcile finds no difference, and the next write of such a record is newer.
	rows, err := b.legacy.LookupLocked(b.ctx, []record.Key{"2", "4", "5", "6"})
	b.check(err)
	for _, row := range rows {
		entries, err := b.target.Get(b.ctx, []record.Key{row.Key})
		b.check(err)
		if !row.Version.NewerThan(entries[0].Version) {
			t.Errorf("key %s: legacy has the version %s, and the target %s", row.Key, row.Version, entries[0].Version)
		}
	}
	entries, err := b.state.History(b.ctx, "items", 10)
	b.check(err)
	if !slices.ContainsFunc(entries, func(e state.Entry) bool {
		return strings.Contains(e.Reason, "4 records that legacy refuses were set aside")
	}) {
		t.Errorf("the history does not have it: %+v", entries)
	}
}

// Once refused rows are being set aside, what the target has of them is gone: a signal doesn't lead
// back to retain any more, and the next command ends the return.
func TestAReturnThatSetsAsideIsNotGivenUp(t *testing.T) {
	t.Parallel()
	b := constrained(t, `ALTER TABLE items ADD CONSTRAINT high CHECK (name <> 'low')`)
	b.named("1 fine", "4 low")
	ctx, cancel := context.WithCancel(b.ctx)
	defer cancel()
	ctl := b.controller()
	ctl.Legacy = interferedFence{Legacy: b.legacy, ending: cancel}
	_, err := ctl.Rollback(ctx, control.Rollback{Reason: "test", SetAside: true})
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if st := b.snapshot().Status; st.Route.Phase != phases.Returning || !st.ReturnFinal {
		t.Fatalf("it is at %s, final %v", st.Route, st.ReturnFinal)
	}
	b.check(b.controller().Resume(b.ctx))
	b.consistent(phases.Grace)
	b.keepsName(map[record.Key]string{"1": "fine", "4": "item 4"})
	if st := b.snapshot().Status; st.SetAside != 1 || st.ReturnFinal {
		t.Errorf("%d set aside, final %v", st.SetAside, st.ReturnFinal)
	}
}

// TestCopiesCountAfterABeat: the target went back while it was read. Nothing that was read counts, no
// fence is lifted, and the return is whole once the target is.
func TestCopiesCountAfterABeat(t *testing.T) {
	t.Parallel()
	b := inRetain(t)
	gone := errors.New("the target went back")
	// from: the first beats are made before anything is copied.
	from := func(from int) func(context.Context) error {
		n := 0
		return func(context.Context) error {
			if n++; n < from {
				return nil
			}
			return gone
		}
	}
	ctl := b.rounding()
	ctl.Whole = from(2)
	rest := b.snapshot().Status.ReturnRest
	if moves, err := ctl.Rollback(b.ctx, control.Rollback{Reason: "test"}); !errors.Is(err, gone) || len(moves) != 0 {
		t.Fatalf("%v, %v", moves, err)
	}
	if st := b.snapshot().Status; st.Route.Phase != phases.Retain || st.ReturnRest != rest {
		t.Errorf("at %s %d keys are left, before %d", st.Route, st.ReturnRest, rest)
	}
	ctl = b.controller() // all in the last round
	ctl.Whole = from(3)
	if _, err := ctl.Rollback(b.ctx, control.Rollback{Reason: "test"}); !errors.Is(err, gone) {
		t.Fatal(err)
	}
	if st := b.snapshot().Status; st.Route.Phase != phases.Returning {
		t.Errorf("at %s", st.Route)
	}
	ctl.Whole = from(3) // the last one, before the fence is lifted
	if err := ctl.Resume(b.ctx); !errors.Is(err, gone) {
		t.Fatal(err)
	}
	if attempt, _, err := b.legacy.FenceState(b.ctx); err != nil || attempt == "" {
		t.Errorf("the fence was lifted (%v)", err)
	}
	ctl.Whole = nil
	b.check(ctl.Resume(b.ctx))
	b.returned()
	b.consistent(phases.Grace)
}
