package cases

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store/postgres"
)

// TestSlowWriteDoesNotRollBackTheFleet: one closure takes longer than not-after, in a
// wait for a row's lock, for example. The target refuses the copy as late, which the
// instance treats as an outage: it rolls the whole fleet back to dual-read while both
// stores work. A late write must affect only itself: journal, repair, else an error.
func TestSlowWriteDoesNotRollBackTheFleet(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{notAfter: time.Second})
	a := w.application(setup{})
	w.upto(phases.Grace)
	a.before = func() { w.pass(time.Duration(w.m.Writing.NotAfter)) }
	err := a.write(1, "slow")
	if st := w.status(); st.Route.Phase != phases.Grace {
		t.Errorf("one slow write took the fleet to %s: %s", st.Route, st.LastReason)
	}
	if got := a.read(1); err == nil && got != "slow" {
		t.Errorf("the write was acknowledged and a read answers %q", got)
	}
}

// TestLargeWriteDoesNotRollBackTheFleet: one write changes more records than fit into
// the deadline, which does not depend on their number. The rest counts as an outage
// of the target: the whole fleet is rolled back while both stores work, or, where the
// journal can't take so many keys within the deadline either, the write fails.
func TestLargeWriteDoesNotRollBackTheFleet(t *testing.T) {
	t.Parallel()
	const records = 20_000
	w := newWorld(t, options{notAfter: 20 * time.Second})
	a := w.application(setup{deadline: 500 * time.Millisecond}) // less than they take on an idle machine
	w.upto(phases.Grace)
	err := a.writer.Write(w.ctx, dual.Op[int64, item]{Legacy: func(ctx context.Context) ([]dual.Change[int64, item], error) {
		rows, err := w.db.Query(ctx, fmt.Sprintf(`INSERT INTO items SELECT i, 'large' FROM generate_series(1, %d) i
			ON CONFLICT (id) DO UPDATE SET name = 'large' RETURNING id, `, records)+postgres.VersionExpr("items"))
		if err != nil {
			return nil, err
		}
		return pgx.CollectRows(rows, func(row pgx.CollectableRow) (c dual.Change[int64, item], err error) {
			var text string
			if err := row.Scan(&c.Key, &text); err != nil {
				return c, err
			}
			c.Value = item{c.Key, "large"}
			c.Version, err = record.ParseVersion(text)
			return c, err
		})
	}})
	if st := w.status(); st.Route.Phase != phases.Grace {
		t.Errorf("one write of %d records took the fleet to %s: %s", records, st.Route, st.LastReason)
	}
	var partly *dual.TargetError
	switch got := a.read(records); {
	case errors.As(err, &partly):
		t.Errorf("legacy has %d records that the target is reported to lack: %v", len(partly.Keys), partly.Cause)
	case err != nil:
		t.Error(err)
	case got != "large":
		t.Errorf("the write was acknowledged and a read of its last record answers %q", got)
	}
}

// TestLargeWriteInRetainIsComplete: in retain the keys of one write are written one by
// one under a deadline that does not depend on their number: some of them are done,
// the rest is not, and nothing but the size was wrong.
func TestLargeWriteInRetainIsComplete(t *testing.T) {
	t.Parallel()
	const records = 5_000
	w := newWorld(t, options{notAfter: 20 * time.Second})
	a := w.application(setup{})
	w.upto(phases.Retain)
	keys := make([]int64, records)
	for n := range keys {
		keys[n] = int64(n + 1)
	}
	err := a.writer.Write(w.ctx, dual.Op[int64, item]{
		Legacy: func(context.Context) ([]dual.Change[int64, item], error) {
			return nil, errors.New("the legacy form of a write was called in retain")
		},
		Keys:   keys,
		Update: func(id int64, _ item, _ bool) (item, bool, error) { return item{id, "large"}, false, nil },
	})
	var partly *dual.TargetError
	switch {
	case errors.As(err, &partly):
		t.Errorf("of %d records %d are written and %d are not: %v", records, len(partly.Done), len(partly.Keys), partly.Cause)
	case err != nil:
		t.Error(err)
	}
}

// TestPanicAfterCommitIsJournaled: the application's closure panics after legacy's
// commit, and its server recovers, as net/http does. Legacy is ahead of the target, and no
// journal has the key: reads stay stale for good. The outcome of such a write is unknown,
// and its key must be journaled.
func TestPanicAfterCommitIsJournaled(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	a := w.application(setup{uncertain: func(error) bool { return true }})
	w.upto(phases.Grace)
	a.after = func() { panic("the application's own bug, after its commit") }
	func() {
		defer func() { _ = recover() }()
		_ = a.write(1, "committed")
	}()
	testenv.Await(w.t, "the write to be over", func() bool { return a.i.Stats().InFlight == 0 })
	if got := a.read(1); got != w.inLegacy(1) && w.status().JournalKeys == 0 {
		t.Errorf("legacy has %q, a read answers %q, and no key is journaled", w.inLegacy(1), got)
	}
}
