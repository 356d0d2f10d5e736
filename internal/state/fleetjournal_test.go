package state_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/dual/pgfleet"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/state/reconciles"
	"github.com/stranglerfig/migrator/internal/statedb"
	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/reconcile"
	"github.com/stranglerfig/migrator/record"
)

func TestJournalRulesOnReaders(t *testing.T) { overEach(t, journalRulesOnReaders) }

func journalRulesOnReaders(t *testing.T, s *state.Store, v over) {
	a := v.join(t, "a", pgfleet.Options{})
	lost := []dual.JournalEntry{
		{Key: "k", Version: record.MakeVersion(1, 0, 5), Reason: "first"},
		{Key: "\xff,1", Reason: strings.Repeat("\xe4", 600)},
		{Key: "k", Version: record.MakeVersion(1, 0, 4), Reason: "second\x00"},
	}
	journal := func(want dual.JournalResult, keys int64) {
		t.Helper()
		got, err := a.Journal(t.Context(), lost)
		_, st := fleetOf(t, s)
		want.Route = st.Route
		if err != nil || got != want || st.JournalKeys != keys {
			t.Errorf("at %s: %+v with %d keys, want %+v: %v", st.Route, got, st.JournalKeys, want, err)
		}
	}
	journal(dual.JournalResult{}, 2)
	clearJournal(t, s)
	walk(t, s, []*instance{a}, shadowWrite, dualRead)
	journal(dual.JournalResult{}, 2)
	journal(dual.JournalResult{}, 2)
	list, err := reconciles.New(s.Pool(), testMigration).Journal(t.Context(), "", 10)
	if err != nil || len(list) != 2 || list[0].Key != "k" || list[0].Changes != 4 || list[0].Version != record.MakeVersion(1, 0, 5) ||
		list[0].Reason != "second" || list[1].Key != "\xff,1" || !list[1].Version.IsZero() {
		t.Errorf("journal: %+v, %v", list, err)
	}
	if list, err = reconciles.New(s.Pool(), testMigration).Journal(t.Context(), "k", 10); err != nil || len(list) != 1 || list[0].Key != "\xff,1" {
		t.Errorf("second page: %+v, %v", list, err)
	}
	walk(t, s, []*instance{a}, cutover5)
	journal(dual.JournalResult{TargetRead: true}, 2)
	walk(t, s, nil, dualRead)
	journal(dual.JournalResult{TargetRead: true}, 2) // a may still be on cutover
	if read, err := a.TargetRead(t.Context()); err != nil || !read {
		t.Errorf("target read: %v, %v", read, err)
	}
	a.ack(t, 6-1)
	journal(dual.JournalResult{}, 2)
	clearJournal(t, s)
	walk(t, s, []*instance{a}, cutover, grace, fencedRoute)
	journal(dual.JournalResult{TargetRead: true, Fenced: true}, 0)
	walk(t, s, []*instance{a}, retain)
	journal(dual.JournalResult{TargetRead: true, Fenced: true}, 0)
}

func TestClearKeepsLaterChanges(t *testing.T) { overEach(t, clearKeepsLaterChanges) }

func clearKeepsLaterChanges(t *testing.T, s *state.Store, v over) {
	f := v.connect(testMigration, pgfleet.Options{})
	r := reconciles.New(s.Pool(), testMigration)
	lose := func() { _, err := f.Journal(t.Context(), []dual.JournalEntry{{Key: "k"}}); must(t, err) }
	read := func() (list []record.Key) {
		all, err := r.Journal(t.Context(), "", 10)
		must(t, err)
		for _, j := range all {
			list = append(list, j.Key)
		}
		return list
	}
	lose()
	all, err := r.Journal(t.Context(), "", 10)
	must(t, err)
	first := all[0]
	lose()
	if cleared, err := r.Clear(t.Context(), []reconcile.JournaledKey{first}); err != nil || cleared != 0 || len(read()) != 1 {
		t.Errorf("cleared though it had changed again: %v, %v", cleared, err)
	}
	clearJournal(t, s)
	lose() // the count is 1 again, as in the first that we saw
	if cleared, err := r.Clear(t.Context(), []reconcile.JournaledKey{first}); err != nil || cleared != 0 || len(read()) != 1 {
		t.Errorf("cleared another entry of the key: %v, %v", cleared, err)
	}
}

// A key that is journaled again while its clearing waits for it stays.
func TestClearWaitsForAChangeOfItsKey(t *testing.T) {
	t.Parallel()
	s, _ := open(t)
	exec(t, s, `INSERT INTO migrator.journal (migration, key, version, changes, reason, first_at, last_at)
		SELECT $1, convert_to(i::text, 'UTF8'), repeat('0', 32), 1, 'timeout', now(), now() FROM generate_series(1, 3) i`, testMigration)
	r := reconciles.New(s.Pool(), testMigration)
	list, err := r.Journal(t.Context(), "", 10)
	must(t, err)
	tx, err := s.Pool().Begin(t.Context())
	must(t, err)
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
	_, err = tx.Exec(t.Context(), `UPDATE migrator.journal SET changes = changes + 1 WHERE key = '2'`)
	must(t, err)
	type result struct {
		cleared int64
		err     error
	}
	done := make(chan result, 1)
	go func() {
		cleared, err := r.Clear(t.Context(), list)
		done <- result{cleared, err}
	}()
	testenv.Await(t, "the clearing to wait", func() bool {
		return value[bool](t, s, `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%clear_journal%' AND pid <> pg_backend_pid())`)
	})
	must(t, tx.Commit(t.Context()))
	if got := <-done; got.err != nil || got.cleared != 2 {
		t.Errorf("cleared %d of 3, one of them changed: %v", got.cleared, got.err)
	}
	if list, err = r.Journal(t.Context(), "", 10); err != nil || len(list) != 1 || list[0].Key != "2" || list[0].Changes != 2 {
		t.Errorf("left %+v, %v", list, err)
	}
}

// The journal grows faster than its statistics: what a page costs must not grow with the journal.
func TestAPageOfTheJournalIsReadAndClearedByTheIndex(t *testing.T) {
	t.Parallel()
	s, _ := open(t)
	const page = 500
	tx, err := s.Pool().Begin(t.Context())
	must(t, err)
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
	_, err = tx.Exec(t.Context(), `INSERT INTO migrator.journal (migration, key, version, changes, reason, first_at, last_at)
		SELECT $1, convert_to(i::text, 'UTF8'), repeat('0', 32), 1, 'timeout', now(), now() FROM generate_series(1, 20000) i`, testMigration)
	must(t, err)
	rows := func() (n int64) {
		t.Helper()
		must(t, tx.QueryRow(t.Context(), `SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relid = 'migrator.journal'::regclass`).Scan(&n))
		return n
	}
	before := rows()
	keys, err := statedb.Page(t.Context(), tx, pgx.RowTo[[]byte], `SELECT key FROM migrator.journal
		WHERE migration = $1 AND key > $2 ORDER BY key LIMIT $3`, testMigration, []byte("4"), page)
	must(t, err)
	if n := rows() - before; len(keys) != page || n != page {
		t.Errorf("read %d keys from %d rows, want %d of each", len(keys), n, page)
	}
	before = rows()
	changes := make([]int64, page)
	for i := range changes {
		changes[i] = 1
	}
	var cleared int64
	must(t, tx.QueryRow(t.Context(), `SELECT migrator.clear_journal($1, $2, $3, $4)`, testMigration, keys, changes, make([]*time.Time, page)).Scan(&cleared))
	if n := rows() - before; cleared != page || n != page {
		t.Errorf("cleared %d keys from %d rows, want %d of each", cleared, n, page)
	}
}

func TestEmergencyRollbackHappensOnce(t *testing.T) { overEach(t, emergencyRollbackHappensOnce) }

func emergencyRollbackHappensOnce(t *testing.T, s *state.Store, v over) {
	a := v.join(t, "a", pgfleet.Options{})
	walk(t, s, []*instance{a}, shadowWrite, dualRead)
	must(t, a.RollBack(t.Context(), 3, "nothing to do"))
	walk(t, s, []*instance{a}, cutover5, cutover)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if err := a.RollBack(t.Context(), 5, "connection refused"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	_, st := fleetOf(t, s)
	if st.Route != (phases.Route{Phase: phases.DualRead, Percent: phases.All, Epoch: 6}) || st.LastCause != "failure" || st.LastReason != "connection refused" {
		t.Errorf("%+v", st)
	}
	if n, err := s.VerifyHistory(t.Context(), testMigration); err != nil || n != 6 {
		t.Errorf("%d entries, %v", n, err)
	}
	a.ack(t, 6)
	walk(t, s, []*instance{a}, cutover, grace)
	must(t, a.RollBack(t.Context(), 8, "again"))
	walk(t, s, []*instance{a}, cutover, grace, fencedRoute)
	if err := a.RollBack(t.Context(), 10, "too late"); !errors.Is(err, dual.ErrRouteMoved) {
		t.Errorf("fenced: %v", err)
	}
	walk(t, s, []*instance{a}, retain)
	if err := a.RollBack(t.Context(), 10, "too late"); !errors.Is(err, dual.ErrRouteMoved) {
		t.Errorf("retain: %v", err)
	}
}

func TestTheReturnJournal(t *testing.T) { overEach(t, theReturnJournal) }

func theReturnJournal(t *testing.T, s *state.Store, v over) {
	f := v.connect(testMigration, pgfleet.Options{})
	walk(t, s, nil, shadowWrite, dualRead, cutover, grace)
	if err := f.Return(t.Context(), 5, []record.Key{"1"}); !errors.Is(err, dual.ErrRouteMoved) {
		t.Errorf("in grace: %v", err)
	}
	walk(t, s, nil, fencedRoute, retain)
	if err := f.Return(t.Context(), 6, []record.Key{"1"}); !errors.Is(err, dual.ErrRouteMoved) {
		t.Errorf("of another epoch: %v", err)
	}
	if _, st := fleetOf(t, s); st.ReturnKeys != 0 {
		t.Errorf("%d keys of refused writes", st.ReturnKeys)
	}
	must(t, f.Return(t.Context(), 7, []record.Key{"b", "a", "b", "\xfe"}))
	must(t, f.Return(t.Context(), 7, []record.Key{"a"}))
	keys, err := s.ReturnKeys(t.Context(), testMigration, "", 2)
	if err != nil || len(keys) != 2 || keys[0] != "a" || keys[1] != "b" {
		t.Errorf("%q, %v", keys, err)
	}
	if keys, err = s.ReturnKeys(t.Context(), testMigration, "b", 2); err != nil || len(keys) != 1 || keys[0] != "\xfe" {
		t.Errorf("%q, %v", keys, err)
	}
	if err := s.ClearReturn(t.Context(), testMigration, nil, keys); err == nil {
		t.Error("cleared in retain")
	}
	walk(t, s, nil, phases.Route{Phase: phases.Returning})
	if err := f.Return(t.Context(), 7, []record.Key{"late"}); !errors.Is(err, dual.ErrRouteMoved) {
		t.Errorf("while returning: %v", err)
	}
	if err := s.ClearReturn(t.Context(), testMigration, nil, keys); err == nil {
		t.Error("set aside without leave")
	}
	_, st := fleetOf(t, s)
	must(t, s.AllowSetAside(t.Context(), testMigration, st.Route))
	must(t, s.ClearReturn(t.Context(), testMigration, nil, []record.Key{"a", "\xfe"}))
	if _, st = fleetOf(t, s); st.SetAside != 2 {
		t.Errorf("%d set aside", st.SetAside)
	}
	if keys, err = s.ReturnKeys(t.Context(), testMigration, "", 9); err != nil || len(keys) != 1 || keys[0] != "b" {
		t.Errorf("%q, %v", keys, err)
	}
	if _, err := move(t.Context(), s, grace); err == nil || !strings.Contains(err.Error(), "still has 1 key,") {
		t.Errorf("to grace with a key that legacy lacks: %v", err)
	}
	must(t, s.ClearReturn(t.Context(), testMigration, nil, keys))
	_, err = move(t.Context(), s, grace)
	must(t, err)
}
