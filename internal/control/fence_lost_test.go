package control_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/internal/control"
	"github.com/stranglerfig/migrator/internal/preflight"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/store"
)

// losses are the ways in which legacy may lose its fence, or a part of it.
var losses = map[string]string{
	"a server without it is promoted": `UPDATE migrator_legacy.migration SET attempt = NULL, fence_era = NULL, fenced_at = NULL;
		DO $$ DECLARE t record; BEGIN
			FOR t IN SELECT tgname FROM pg_trigger WHERE tgrelid = 'items'::regclass AND NOT tgisinternal LOOP
				EXECUTE format('DROP TRIGGER %I ON items', t.tgname);
			END LOOP; END $$;
		SELECT setval(format('migrator_legacy.%I', 'era:items')::regclass, 1)`,
	"the row was replicated, its triggers were not": `DO $$ DECLARE t record; BEGIN
			FOR t IN SELECT tgname FROM pg_trigger WHERE tgrelid = 'items'::regclass AND NOT tgisinternal LOOP
				EXECUTE format('DROP TRIGGER %I ON items', t.tgname);
			END LOOP; END $$`,
	"its triggers were disabled": `ALTER TABLE items DISABLE TRIGGER USER`,
	"its triggers don't fire in replication": `DO $$ DECLARE t record; BEGIN
			FOR t IN SELECT tgname FROM pg_trigger WHERE tgrelid = 'items'::regclass AND NOT tgisinternal LOOP
				EXECUTE format('ALTER TABLE items ENABLE TRIGGER %I', t.tgname);
			END LOOP; END $$`,
}

func (b *bench) must(sql string) {
	b.t.Helper()
	conn, err := pgx.Connect(b.ctx, b.legacyURL)
	b.check(err)
	defer func() { _ = conn.Close(b.ctx) }()
	_, err = conn.Exec(b.ctx, sql)
	b.check(err)
}

// TestALostFenceIsRaisedAgain: by the next look at it, at the era that the writes of retain have.
// The migration is unclean then, and the rollback's class unknown.
func TestALostFenceIsRaisedAgain(t *testing.T) {
	t.Parallel()
	for name, loss := range losses {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := inRetain(t)
			before := b.snapshot().Status
			if gaps, err := b.controller().RestoreFence(b.ctx); gaps != "" || err != nil {
				t.Fatalf("a whole fence: %q, %v", gaps, err)
			}
			b.must(loss)
			gaps, err := b.controller().RestoreFence(b.ctx)
			b.check(err)
			if gaps == "" {
				t.Fatal("not noticed")
			}
			b.consistent(phases.Retain)
			st := b.snapshot().Status
			_, era, err := b.legacy.FenceState(b.ctx)
			b.check(err)
			if era != before.FenceEra || !strings.Contains(st.Unclean, gaps) || phases.ClassOf(st).Class != phases.Unknown {
				t.Errorf("legacy's era is %d, the fence's was %d; %+v", era, before.FenceEra, st)
			}
			if gaps, err := b.controller().RestoreFence(b.ctx); gaps != "" || err != nil {
				t.Errorf("after that: %q, %v", gaps, err)
			}
			moves, err := b.rollsBack(0)
			b.check(err)
			if last := moves[len(moves)-1]; last.Phase != phases.DualRead {
				t.Errorf("the rollback ended at %s: the target lacks what legacy took", last)
			}
			b.returned()
			b.consistent(phases.DualRead)
		})
	}
}

// TestAReturnDoesNotBeginBesideALegacyThatTakesWrites: nothing is committed; the fence stands
// again, and the next attempt is made.
func TestAReturnDoesNotBeginBesideALegacyThatTakesWrites(t *testing.T) {
	t.Parallel()
	b := inRetain(t)
	b.must(losses["a server without it is promoted"])
	b.must("UPDATE items SET name = 'taken by legacy' WHERE id = 5")
	var lost *control.FenceLostError
	if moves, err := b.rollsBack(0); !errors.As(err, &lost) || len(moves) != 0 {
		t.Fatalf("%v, %v", moves, err)
	}
	b.consistent(phases.Retain)
	_, err := b.rollsBack(0)
	b.check(err)
	b.returned()
	if got := b.legacyName("5"); got != "taken by legacy" {
		t.Errorf("legacy has %q under key 5, which no write of retain changed", got)
	}
}

// TestAReturnRestoresAFenceThatIsLostMeanwhile: writes wait by then, so the return ends, and
// reads don't come from a target that may lack what legacy took.
func TestAReturnRestoresAFenceThatIsLostMeanwhile(t *testing.T) {
	t.Parallel()
	b := inRetain(t)
	ctl := b.controller()
	ctl.State = interferedState{State: b.state, to: phases.Returning, moved: func() { b.must(losses["a server without it is promoted"]) }}
	_, err := ctl.Rollback(b.ctx, control.Rollback{To: phases.Grace, Reason: "test"})
	b.check(err)
	b.returned()
	b.consistent(phases.DualRead)
	if b.snapshot().Status.Unclean == "" {
		t.Error("the migration is not marked unclean")
	}
}

// TestReclaimDoesNotLoseTheReturnJournal: the fence is lost while a return is under way, and an
// operator takes that for a loss of the state.
func TestReclaimDoesNotLoseTheReturnJournal(t *testing.T) {
	t.Parallel()
	b := inRetain(t)
	ctl := b.controller()
	func() {
		defer func() { _ = recover() }() // the command is killed after its first move
		ctl.State = interferedState{State: b.state, to: phases.Returning, moved: func() {
			b.must(losses["a server without it is promoted"])
			panic("killed")
		}}
		_, _ = ctl.Rollback(b.ctx, control.Rollback{To: phases.Grace, Reason: "test"})
	}()
	if at := b.snapshot().Status.Route; at.Phase != phases.Returning {
		t.Fatalf("the return stopped at %s", at)
	}
	_, err := b.controller().Reclaim(b.ctx, "test", time.Second)
	b.check(err)
	b.returned()
	b.consistent(phases.DualRead)
}

// TestRetainNeedsAWholeFence: its row is not enough.
func TestRetainNeedsAWholeFence(t *testing.T) {
	t.Parallel()
	b := atGrace(t)
	ctl := b.controller()
	ctl.State = interferedState{State: b.state, to: phases.Fenced, moved: func() { b.must("ALTER TABLE items DISABLE TRIGGER USER") }}
	if _, err := ctl.Advance(b.ctx, fenceGates()); err == nil {
		t.Error("retain was entered beside a legacy that takes writes")
	}
	b.neverInRetain()
	b.consistent(phases.Grace)
}

// taken is what doctor says of the writes that legacy took.
func (b *bench) taken() (found store.Check, ok bool) {
	b.t.Helper()
	p := preflight.Preflight{
		Config: b.m, StateURL: func() (string, error) { return b.stateURL, nil },
		OpenState: func(ctx context.Context) (*state.Store, error) { return state.Open(ctx, b.stateURL) },
	}
	for _, c := range p.Check(b.ctx).Checks {
		if c.Name == "legacy: taken" {
			return c, true
		}
	}
	return found, false
}

// TestWhatLegacyTookIsListed: key by key, and marked where the target took writes too.
func TestWhatLegacyTookIsListed(t *testing.T) {
	t.Parallel()
	for name, loss := range losses {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := inRetain(t)
			if c, ok := b.taken(); ok {
				t.Fatalf("with a whole fence: %+v", c)
			}
			b.must(loss)
			b.must(`SET session_replication_role = replica; UPDATE items SET name = 'taken' WHERE id IN (1, 5);
				UPDATE items SET name = name WHERE id = 6; INSERT INTO items VALUES (77, 'taken'); DELETE FROM items WHERE id = 8`)
			_, err := b.controller().RestoreFence(b.ctx)
			b.check(err)
			c, ok := b.taken()
			if !ok || c.Result != store.Warned || !strings.Contains(c.Detail, "took 3 records") {
				t.Fatalf("%v, %+v", ok, c)
			}
			for _, want := range []string{`"1" (the target took writes of it too`, `"5"`, `"77"`} {
				if !strings.Contains(c.Detail, want) {
					t.Errorf("%s is not in %s", want, c.Detail)
				}
			}
			if strings.Contains(c.Detail, `"6"`) || strings.Contains(c.Detail, `"3"`) || c.Hint.IsZero() {
				t.Errorf("%+v", c)
			}
		})
	}
}
