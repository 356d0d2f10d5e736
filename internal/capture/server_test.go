package capture_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/internal/capture"
	"github.com/stranglerfig/migrator/internal/test/pairtest"
	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/store"
)

// ownServer is a pair whose legacy has a server of its own.
func ownServer(t *testing.T, settings map[string]string) (*pairtest.Pair, *testenv.PostgresServer) {
	t.Helper()
	s := testenv.Postgres(t, testenv.PostgresOptions{Settings: settings})
	return pairtest.New(t, pairtest.Options{Legacy: s.URL()}), s
}

// slowTarget takes a while for the first writes.
type slowTarget struct {
	store.TargetRecords
	wait time.Duration
}

func (s *slowTarget) Apply(ctx context.Context, writes []store.Write) ([]store.Result, error) {
	time.Sleep(s.wait)
	s.wait = 0
	return s.TargetRecords.Apply(ctx, writes)
}

// An apply that takes longer than the server waits for an answer, and prepared transactions.
func TestALongApplyAndPreparedTransactions(t *testing.T) {
	t.Parallel()
	p, _ := ownServer(t, map[string]string{"wal_sender_timeout": "3s", "max_prepared_transactions": "5"})
	slow := &slowTarget{TargetRecords: p.Target, wait: 7 * time.Second}
	r := begin(t, p, func(c *capture.Capture) { c.Target, c.NotAfter, c.Workers = slow, 30*time.Second, 1 })
	p.FillSimple(t, 1, 3000)
	r.same()
	p.Exec(t, "BEGIN; UPDATE items SET name = 'prepared' WHERE id <= 10; PREPARE TRANSACTION 'first'")
	p.Exec(t, "BEGIN; UPDATE items SET name = 'given up' WHERE id > 2000; PREPARE TRANSACTION 'second'")
	p.Exec(t, "UPDATE items SET name = 'between' WHERE id = 500")
	r.caughtUp()
	if e := r.get("1"); e.Record[1].Text == "prepared" {
		t.Error("a prepared transaction was brought before it was committed")
	}
	p.Exec(t, "COMMIT PREPARED 'first'")
	p.Exec(t, "ROLLBACK PREPARED 'second'")
	r.same()
}

// A slot waits for every transaction that is open, of any table and database: it is reported for which.
func TestASlotThatIsWaitedForSaysForWhat(t *testing.T) {
	t.Parallel()
	p, _ := ownServer(t, map[string]string{"max_prepared_transactions": "5"})
	p.Exec(t, "CREATE TABLE elsewhere (id int)")
	p.Exec(t, "BEGIN; INSERT INTO elsewhere VALUES (1); PREPARE TRANSACTION 'for''gotten'")
	r := prepare(t, p, nil)
	r.start()
	testenv.Await(t, "what the slot waits for", func() bool {
		reported := r.seen().LastError
		return strings.Contains(reported, `prepared transaction "for'gotten"`) && strings.Contains(reported, "ROLLBACK PREPARED 'for''gotten'")
	})
	p.Exec(t, "ROLLBACK PREPARED 'for''gotten'")
	r.barrier()
	testenv.Await(t, "no failure", func() bool { return r.seen().LastError == "" })
	r.end()

	// The same holds the log of a capture that keeps up.
	p.Exec(t, "BEGIN; INSERT INTO elsewhere VALUES (2); PREPARE TRANSACTION 'again'")
	r.c.MaxHeld, r.c.Beat = 1<<20, 20*time.Millisecond
	r.start()
	for len(r.done) == 0 {
		p.Exec(t, "INSERT INTO elsewhere SELECT i FROM generate_series(1, 1000) i")
		testenv.Await(t, "capture to keep up", func() (near bool) {
			err := p.SQL.QueryRow(t.Context(), "SELECT pg_current_wal_lsn() - confirmed_flush_lsn < 100000 FROM pg_replication_slots").Scan(&near)
			return near || err != nil
		})
	}
	if err := r.fails(); err == nil || !strings.Contains(err.Error(), `held for an open transaction: prepared transaction "again"`) {
		t.Error(err)
	}
	p.Exec(t, "ROLLBACK PREPARED 'again'")
}

// A quiet table on a busy server does not keep the server from removing its log.
func TestAQuietTableHoldsNoLog(t *testing.T) {
	t.Parallel()
	p, _ := ownServer(t, map[string]string{"wal_keep_size": "0", "min_wal_size": "32MB", "max_wal_size": "48MB"})
	r := begin(t, p, nil)
	p.Exec(t, "CREATE TABLE busy (x text)")
	for range 4 {
		p.Exec(t, "INSERT INTO busy SELECT repeat('x', 1000) FROM generate_series(1, 20000)")
	}
	const segments = 2 * 16 << 20
	for began := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		var held int64
		if err := p.SQL.QueryRow(t.Context(), "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::int8 FROM pg_replication_slots").Scan(&held); err != nil {
			t.Fatal(err)
		}
		if held <= segments {
			break
		}
		if time.Since(began) > 5*time.Minute {
			t.Fatalf("the slot still holds %d MiB", held>>20)
		}
		// The server moves a slot on with its records of running transactions: each 15 s by itself, and at a checkpoint.
		p.Exec(t, "CHECKPOINT")
	}
	if s := r.seen(); s.HeldBytes == 0 && s.Progress.Resume == 0 {
		t.Errorf("status: %+v", s)
	}
}

// What was lost is reported, and never skipped.
func TestALostSlot(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		running bool // it happens while capture runs
		harm    func(t *testing.T, p *pairtest.Pair, slot string)
		want    string
	}{
		"dropped": {false, func(t *testing.T, p *pairtest.Pair, slot string) {
			dropSlot(t, p, slot)
		}, "is gone"},
		"dropped while running": {true, func(t *testing.T, p *pairtest.Pair, slot string) {
			for began := time.Now(); time.Since(began) < time.Minute; {
				p.Exec(t, "SELECT pg_terminate_backend(active_pid, 60000) FROM pg_replication_slots WHERE slot_name = $1 AND active", slot)
				if _, err := p.SQL.Exec(t.Context(), "SELECT pg_drop_replication_slot($1)", slot); err == nil {
					return
				}
			}
		}, "is gone"},
		"made again": {false, func(t *testing.T, p *pairtest.Pair, slot string) {
			dropSlot(t, p, slot)
			p.Exec(t, "UPDATE items SET name = 'between'")
			p.Exec(t, "SELECT pg_create_logical_replication_slot($1, 'pgoutput')", slot)
		}, "made again"},
		"advanced": {false, func(t *testing.T, p *pairtest.Pair, slot string) {
			tx(t, p, "SET LOCAL synchronous_commit = on", "UPDATE items SET name = 'between'") // else it is not on disk yet
			p.Exec(t, "SELECT pg_replication_slot_advance($1, pg_current_wal_flush_lsn())", slot)
		}, "was advanced"},
		"another's": {false, func(t *testing.T, p *pairtest.Pair, slot string) {
			dropSlot(t, p, slot)
			p.Exec(t, "SELECT pg_create_logical_replication_slot($1, 'test_decoding')", slot)
		}, "plugin"},
		"publication dropped": {true, func(t *testing.T, p *pairtest.Pair, slot string) {
			p.Exec(t, "DROP PUBLICATION "+slot)
			p.Exec(t, "UPDATE items SET name = 'unpublished'")
		}, "publication"},
		"publication narrowed for a moment": {false, func(t *testing.T, p *pairtest.Pair, slot string) {
			p.Exec(t, "ALTER PUBLICATION "+slot+" SET (publish = 'insert')")
			p.Exec(t, "UPDATE items SET name = 'unpublished'")
			p.Exec(t, "ALTER PUBLICATION "+slot+" SET (publish = 'insert, update, delete, truncate')")
		}, "was altered"},
		"table taken out for a moment": {true, func(t *testing.T, p *pairtest.Pair, slot string) {
			tx(t, p, "ALTER PUBLICATION "+slot+" DROP TABLE items", "ALTER PUBLICATION "+slot+" ADD TABLE items")
		}, "was altered"},
		"another table": {true, func(t *testing.T, p *pairtest.Pair, _ string) {
			tx(t, p, "ALTER TABLE items RENAME TO old", "CREATE TABLE items (LIKE old INCLUDING ALL)", "INSERT INTO items SELECT * FROM old")
		}, "another table has the name"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := pairtest.New(t, pairtest.Options{})
			r := begin(t, p, nil)
			p.FillSimple(t, 1, 10)
			r.same()
			if !c.running {
				if err := r.end(); err != nil {
					t.Fatal(err)
				}
				testenv.Await(t, "the slot's reader to end", func() (unread bool) {
					err := p.SQL.QueryRow(t.Context(), "SELECT NOT active FROM pg_replication_slots WHERE slot_name = $1", p.Legacy.CaptureName()).Scan(&unread)
					return err == nil && unread
				})
			}
			c.harm(t, p, p.Legacy.CaptureName())
			if !c.running {
				r.start()
			}
			err := r.fails()
			var gone *capture.LostError
			for began := time.Now(); !errors.As(err, &gone) && time.Since(began) < time.Minute; { // the connection may have broken first
				r.start()
				err = r.fails()
			}
			if gone == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("%v, want that it %s", err, c.want)
			}
			if name == "another table" { // as the daemon does
				p.Legacy.Close()
				if err := p.Open(t.Context()); err != nil {
					t.Fatal(err)
				}
				r.c.Legacy, r.c.Target = p.Legacy, p.Target
			}
			r.again()
		})
	}
}

// again forgets what was lost, and begins behind a new barrier.
func (r *running) again() {
	r.t.Helper()
	if strings.Contains(r.slotPlugin(), "test_decoding") {
		if err := r.c.Forget(r.t.Context()); err == nil {
			r.t.Error("another program's slot was dropped")
		}
		return
	}
	if err := r.c.Forget(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
	r.start()
	r.barrier()
	r.Exec(r.t, "UPDATE items SET amount = -amount")
	r.same()
}

func (r *running) slotPlugin() (plugin string) {
	r.t.Helper()
	err := r.SQL.QueryRow(r.t.Context(), "SELECT plugin FROM pg_replication_slots WHERE slot_name = $1", r.Legacy.CaptureName()).Scan(&plugin)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		r.t.Fatal(err)
	}
	return plugin
}

// The owner's disk comes first: a slot is given up at a share of the server's own limit.
func TestASlotIsGivenUpBeforeItFillsTheDisk(t *testing.T) {
	t.Parallel()
	p, _ := ownServer(t, map[string]string{"max_slot_wal_keep_size": "64MB", "max_wal_size": "32MB", "min_wal_size": "32MB"})
	stuck := &stuckTarget{TargetRecords: p.Target}
	r := begin(t, p, func(c *capture.Capture) { c.Target, c.Beat = stuck, 50*time.Millisecond })
	stuck.down.Store(true)
	p.FillSimple(t, 1, 10)
	p.Exec(t, "CREATE TABLE busy (x text)")
	for len(r.done) == 0 {
		p.Exec(t, "INSERT INTO busy SELECT repeat('x', 1000) FROM generate_series(1, 300)")
		time.Sleep(10 * time.Millisecond)
	}
	err := r.fails()
	var gone *capture.LostError
	if !errors.As(err, &gone) || !strings.Contains(err.Error(), "given up") {
		t.Fatal(err)
	}
	if plugin := r.slotPlugin(); plugin != "" || len(r.ledger.unclean) != 1 {
		t.Errorf("the slot is %q, unclean %q", plugin, r.ledger.unclean)
	}
	stuck.down.Store(false)
	r.again()
}

// stuckTarget refuses all while it is down.
type stuckTarget struct {
	store.TargetRecords
	down atomic.Bool
}

func (s *stuckTarget) Apply(ctx context.Context, writes []store.Write) ([]store.Result, error) {
	if s.down.Load() {
		return nil, errors.New("the target does not answer")
	}
	return s.TargetRecords.Apply(ctx, writes)
}

// A promoted standby has no slot, or one whose positions are of another timeline.
func TestAFailover(t *testing.T) {
	t.Parallel()
	p, primary := ownServer(t, map[string]string{"synchronous_commit": "on"})
	standby := testenv.PostgresStandby(t, primary, "standby")
	r := begin(t, p, nil)
	p.FillSimple(t, 1, 10)
	r.same()
	if err := r.end(); err != nil {
		t.Fatal(err)
	}
	q := pairtest.SQL(t, standby.URL())
	testenv.Await(t, "the standby", func() (done bool) {
		err := q.QueryRow(t.Context(), "SELECT count(*) = 10 FROM items").Scan(&done)
		return err == nil && done
	})
	if _, err := q.Exec(t.Context(), "SELECT pg_promote()"); err != nil {
		t.Fatal(err)
	}
	for _, withSlot := range []bool{false, true} {
		if withSlot {
			if _, err := q.Exec(t.Context(), "SELECT pg_create_logical_replication_slot($1, 'pgoutput')", p.Legacy.CaptureName()); err != nil {
				t.Fatal(err)
			}
		}
		promoted := *p
		promoted.LegacyURL = standby.URL()
		if err := promoted.Open(t.Context()); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			promoted.Legacy.Close()
			_ = promoted.Target.Close()
		})
		promoted.SQL = q
		on := prepare(t, &promoted, nil)
		on.ledger.path = r.ledger.path
		on.start()
		err := on.fails()
		var gone *capture.LostError
		if !errors.As(err, &gone) || !strings.Contains(err.Error(), "timeline") {
			t.Fatalf("with the slot %v: %v", withSlot, err)
		}
		if withSlot {
			on.again()
		}
	}
}

// Only one process captures, and another connection that reads the slot is named.
func TestOneProcessCaptures(t *testing.T) {
	t.Parallel()
	p := pairtest.New(t, pairtest.Options{})
	r := begin(t, p, nil)
	if err := r.c.Run(t.Context()); !errors.Is(err, capture.ErrRunning) {
		t.Error(err)
	}
	p.FillSimple(t, 1, 5)
	r.same()
	if s := r.seen(); s.Applied != 5 || s.Progress.Changes != 5 || s.Waiting != 0 {
		t.Errorf("status: %+v", s)
	}
}

// A migration that is forgotten leaves no slot: it would keep legacy's log for good.
func TestForgettingTheMigrationRemovesTheSlot(t *testing.T) {
	t.Parallel()
	p := pairtest.New(t, pairtest.Options{})
	r := begin(t, p, nil)
	if err := p.Legacy.Uninstall(t.Context()); err == nil {
		t.Error("the slot of a capture that runs was dropped")
	}
	p.FillSimple(t, 1, 5)
	r.same()
	if err := r.end(); err != nil {
		t.Fatal(err)
	}
	testenv.Await(t, "the migration to be removed", func() bool { return p.Legacy.Uninstall(t.Context()) == nil })
	var left int
	if err := p.SQL.QueryRow(t.Context(), `SELECT (SELECT count(*) FROM pg_replication_slots WHERE slot_name = $1) + (SELECT count(*) FROM pg_publication)
		+ (SELECT count(*) FROM pg_namespace WHERE nspname = 'migrator_legacy')`, p.Legacy.CaptureName()).Scan(&left); err != nil || left != 0 {
		t.Errorf("%d traces are left (%v)", left, err)
	}
}

// A slot that nothing reads for long is given up by a server of version 18 that is set so: plan warns of it, and the
// loss names the setting. (make matrix)
func TestASlotThatWasIdleForTooLong(t *testing.T) {
	t.Parallel()
	shared := pairtest.New(t, pairtest.Options{})
	var version int
	if err := shared.SQL.QueryRow(t.Context(), "SELECT current_setting('server_version_num')::int").Scan(&version); err != nil {
		t.Fatal(err)
	}
	if version < 180000 {
		t.Skip("PostgreSQL 18 has idle_replication_slot_timeout")
	}
	p, _ := ownServer(t, map[string]string{"idle_replication_slot_timeout": "1s"})
	idle := ""
	for _, c := range capture.Check(t.Context(), p.Legacy, phases.CaptureOnly) {
		if c.Name == "capture-idle" {
			idle = string(c.Result) + ": " + c.Detail
		}
	}
	if !strings.HasPrefix(idle, "warning: idle_replication_slot_timeout is 1s") {
		t.Errorf("plan: %q", idle)
	}
	r := begin(t, p, nil)
	if err := r.end(); err != nil {
		t.Fatal(err)
	}
	testenv.Await(t, "the server to give the slot up", func() (lost bool) {
		p.Exec(t, "CHECKPOINT")
		err := p.SQL.QueryRow(t.Context(), "SELECT wal_status = 'lost' FROM pg_replication_slots WHERE slot_name = $1", p.Legacy.CaptureName()).Scan(&lost)
		return err == nil && lost
	})
	r.start()
	var gone *capture.LostError
	if err := r.fails(); !errors.As(err, &gone) || !strings.Contains(err.Error(), "idle_replication_slot_timeout") {
		t.Fatal(err)
	}
	r.again()
}
