package capture_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/internal/capture"
	"github.com/stranglerfig/migrator/internal/test/pairtest"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// tx runs statements in one transaction.
func tx(t *testing.T, p *pairtest.Pair, statements ...string) {
	t.Helper()
	p.Exec(t, "BEGIN; "+strings.Join(statements, "; ")+"; COMMIT")
}

// An insert is logged before it waits for another's delete of the same key, and its transaction commits later.
func TestAnInsertThatWaitedForADelete(t *testing.T) {
	t.Parallel()
	p := pairtest.New(t, pairtest.Options{})
	p.FillSimple(t, 1, 1)
	r := begin(t, p, nil)
	p.Exec(t, "UPDATE items SET name = 'old'")
	first, err := p.SQL.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := first.Exec(t.Context(), "DELETE FROM items WHERE id = 1"); err != nil {
		t.Fatal(err)
	}
	inserted := make(chan error)
	go func() {
		_, err := p.SQL.Exec(t.Context(), "INSERT INTO items (id, name) VALUES (1, 'new')")
		inserted <- err
	}()
	r.blocked("INSERT INTO items%")
	if err := first.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-inserted; err != nil {
		t.Fatal(err)
	}
	r.same()
}

// blocked waits until a statement waits for a lock.
func (r *running) blocked(like string) {
	r.t.Helper()
	for began := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		var waits bool
		if err := r.SQL.QueryRow(r.t.Context(), "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND query LIKE $1 AND wait_event_type = 'Lock')", like).Scan(&waits); err != nil {
			r.t.Fatal(err)
		}
		if waits {
			return
		}
		if time.Since(began) > 5*time.Minute {
			r.t.Fatal("no statement waits")
		}
	}
}

func TestSeveralChangesInATransaction(t *testing.T) {
	t.Parallel()
	p := pairtest.New(t, pairtest.Options{})
	r := begin(t, p, nil)
	p.FillSimple(t, 1, 20)
	tx(t, p, "UPDATE items SET name = 'a' WHERE id <= 10", "UPDATE items SET amount = 7 WHERE id <= 10", "UPDATE items SET name = 'b' WHERE id <= 5",
		"DELETE FROM items WHERE id = 1", "INSERT INTO items (id, name) VALUES (1, 'again')", "DELETE FROM items WHERE id = 2",
		"INSERT INTO items (id, name) VALUES (100, 'born')", "DELETE FROM items WHERE id = 100")
	tx(t, p, "UPDATE items SET name = 'kept' WHERE id = 11", "SAVEPOINT a", "UPDATE items SET name = 'gone' WHERE id IN (11, 12)", "DELETE FROM items WHERE id = 13",
		"SAVEPOINT b", "INSERT INTO items (id) VALUES (101)", "RELEASE b", "ROLLBACK TO a", "UPDATE items SET amount = 1 WHERE id = 12")
	p.Exec(t, "BEGIN; UPDATE items SET name = 'never'; INSERT INTO items (id) VALUES (102); ROLLBACK")
	r.same()
	if e := r.get("100"); e.Presence != store.Tombstone {
		t.Errorf("a record that was born and deleted in one transaction is %s", e.Presence)
	}
}

func TestKeyChanges(t *testing.T) {
	t.Parallel()
	for _, identity := range []string{"DEFAULT", "FULL"} {
		t.Run(identity, func(t *testing.T) {
			t.Parallel()
			p := pairtest.New(t, pairtest.Options{DDL: "CREATE TABLE items (id bigint PRIMARY KEY, name text, big text)"})
			p.Exec(t, "ALTER TABLE items ALTER big SET STORAGE EXTERNAL; ALTER TABLE items REPLICA IDENTITY "+identity)
			p.Exec(t, "INSERT INTO items SELECT i, 'n' || i, repeat(i::text, 3000) FROM generate_series(1, 9) i")
			r := begin(t, p, nil)
			p.Exec(t, "UPDATE items SET name = name || '!'")
			tx(t, p, "UPDATE items SET id = -1 WHERE id = 1", "UPDATE items SET id = 1 WHERE id = 2", "UPDATE items SET id = 2 WHERE id = -1") // a swap
			tx(t, p, "UPDATE items SET id = 13 WHERE id = 3", "UPDATE items SET name = 'moved' WHERE id = 13", "INSERT INTO items VALUES (3, 'another', 'small')")
			p.Exec(t, "UPDATE items SET id = id + 100 WHERE id > 3")
			r.same()
			if locked := r.seen().Locked; (locked == 0) != (identity == "FULL") {
				t.Errorf("%d rows were read under their locks", locked)
			}
		})
	}
}

func (r *running) seen() capture.Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.status
}

// A large value that a change does not set is not in the log.
func TestUnchangedLargeValues(t *testing.T) {
	t.Parallel()
	p := pairtest.New(t, pairtest.Options{DDL: "CREATE TABLE items (id bigint PRIMARY KEY, name text, big text)"})
	p.Exec(t, "ALTER TABLE items ALTER big SET STORAGE EXTERNAL")
	r := begin(t, p, nil)
	p.Exec(t, "INSERT INTO items SELECT i, 'n' || i, repeat(i::text, 3000) FROM generate_series(1, 9) i")
	r.same()
	p.Exec(t, "UPDATE items SET name = 'first'")
	r.same()
	before := r.seen().Locked
	if before == 0 {
		t.Error("the first change that leaves a field out was not read under its lock")
	}
	for i := range 5 {
		p.Exec(t, "UPDATE items SET name = $1", fmt.Sprint("kept ", i))
		r.caughtUp()
	}
	tx(t, p, "UPDATE items SET big = repeat('x', 4000) WHERE id = 1", "UPDATE items SET name = 'both' WHERE id = 1")
	r.same()
	if now := r.seen().Locked; now != before {
		t.Errorf("%d rows more were read under their locks, though the target had the state before", now-before)
	}
	// The target goes back to a state from before another value of the large field.
	old := r.get("3")
	p.Exec(t, "UPDATE items SET big = repeat('y', 4000) WHERE id = 3")
	r.caughtUp()
	now := r.get("3").Version
	results, err := p.Target.Apply(t.Context(), []store.Write{{Key: "3", Record: old.Record, Version: old.Version, Only: &now, Overwrite: true}})
	if err != nil || results[0].Outcome != store.Applied {
		t.Fatalf("%+v, %v", results, err)
	}
	p.Exec(t, "UPDATE items SET name = 'after it went back' WHERE id = 3")
	r.same()
	// It has lost the record.
	if err := p.Redis.Del(t.Context(), "item:2").Err(); err != nil {
		t.Fatal(err)
	}
	p.Exec(t, "UPDATE items SET name = 'back'")
	r.same()
}

// earlyTarget has another state of each key at the very version of its first write: a transaction of the
// application returned an earlier row of its own, with the version of the last one.
type earlyTarget struct {
	store.TargetRecords
	seen map[record.Key]bool
}

func (e *earlyTarget) Apply(ctx context.Context, writes []store.Write) ([]store.Result, error) {
	for _, w := range writes {
		if e.seen[w.Key] || w.Only != nil {
			continue
		}
		e.seen[w.Key] = true
		w.Deleted = !w.Deleted
		if !w.Deleted {
			w.Record = record.Record{record.TextValue(string(w.Key)), record.TextValue("early"), record.NullValue, record.NullValue}
		}
		if _, err := e.TargetRecords.Apply(ctx, []store.Write{w}); err != nil {
			return nil, err
		}
	}
	return e.TargetRecords.Apply(ctx, writes)
}

func TestItsOwnWinsAtAnEqualVersion(t *testing.T) {
	t.Parallel()
	p := pairtest.New(t, pairtest.Options{})
	p.FillSimple(t, 1, 9)
	r := begin(t, p, func(c *capture.Capture) {
		c.Target, c.Workers = &earlyTarget{TargetRecords: c.Target, seen: map[record.Key]bool{}}, 1
	})
	tx(t, p, "UPDATE items SET name = 'late'", "DELETE FROM items WHERE id % 2 = 0")
	r.same()
}

func TestTruncate(t *testing.T) {
	t.Parallel()
	p := pairtest.New(t, pairtest.Options{})
	r := begin(t, p, nil)
	p.FillSimple(t, 1, 100)
	r.same()
	var late record.Version
	if err := p.SQL.QueryRow(t.Context(), "UPDATE items SET name = 'late' WHERE id = 7 RETURNING migrator_legacy.version('move')").Scan(&late); err != nil {
		t.Fatal(err)
	}
	tx(t, p, "INSERT INTO items (id) VALUES (200)", "TRUNCATE items", "INSERT INTO items (id, name) VALUES (1, 'after'), (201, 'after')")
	p.Exec(t, "INSERT INTO items (id, name) VALUES (2, 'later')")
	r.same()
	// The application's own messages from before come late: of a key that had an entry, and of one that had none.
	for _, w := range []store.Write{
		{Key: "7", Version: late, Record: record.Record{record.TextValue("7"), record.TextValue("late"), record.NullValue, record.NullValue}},
		{Key: "300", Version: late, Record: record.Record{record.TextValue("300"), record.TextValue("late"), record.NullValue, record.NullValue}},
	} {
		results, err := p.Target.Apply(t.Context(), []store.Write{w})
		if want := map[record.Key]store.Outcome{"7": store.Older, "300": store.Applied}[w.Key]; err != nil || results[0].Outcome != want {
			t.Fatalf("%s: %+v, %v", w.Key, results, err)
		}
	}
	r.until("the second sweep", func(p capture.Progress) bool { return len(p.Sweeps) == 0 })
	r.same()
	if len(r.ledger.unclean) != 1 {
		t.Errorf("unclean: %q", r.ledger.unclean)
	}
}

// A TRUNCATE, or a delete, removes nothing that another program wrote under a key that legacy lacks.
func TestAnotherProgramsValuesStay(t *testing.T) {
	t.Parallel()
	for _, into := range []string{"", pairtest.SimpleDDL} {
		p := pairtest.New(t, pairtest.Options{Into: into})
		r := begin(t, p, func(c *capture.Capture) { c.Target = p.Records() })
		p.FillSimple(t, 1, 100)
		r.caughtUp()
		var err error
		if into == "" {
			err = p.Redis.HSet(t.Context(), "item:400", "name", "another program's").Err()
		} else {
			_, err = p.Into.Pool().Exec(t.Context(), "INSERT INTO items (id, name) VALUES (400, 'another program''s')")
		}
		if err != nil {
			t.Fatal(err)
		}
		tx(t, p, "TRUNCATE items", "INSERT INTO items (id, name) VALUES (1, 'after')")
		r.caughtUp()
		r.until("the second sweep", func(p capture.Progress) bool { return len(p.Sweeps) == 0 })
		entries, err := p.Records().Get(t.Context(), []record.Key{"400", "7"})
		if err != nil {
			t.Fatal(err)
		}
		if e := entries[0]; e.Presence != store.Unowned || len(e.Record) < 2 || e.Record[1].Text != "another program's" {
			t.Errorf("%+v", e)
		}
		if e := entries[1]; e.Presence != store.Tombstone {
			t.Errorf("%+v", e)
		}
	}
}

// A transaction that is larger than memory, with several changes of a key, goes by files.
func TestALargeTransaction(t *testing.T) {
	t.Parallel()
	p := pairtest.New(t, pairtest.Options{})
	p.FillSimple(t, 1, 3000)
	r := begin(t, p, func(c *capture.Capture) { c.Memory = 8 << 10 })
	p.Exec(t, "UPDATE items SET name = 'seen'")
	r.same()
	tx(t, p, "UPDATE items SET amount = amount + 1", "UPDATE items SET id = -id WHERE id % 5 = 0", "UPDATE items SET name = 'x' WHERE id % 3 = 0",
		"DELETE FROM items WHERE id % 11 = 0", "INSERT INTO items SELECT i, 'new' FROM generate_series(5001, 9000) i", "UPDATE items SET name = 'y' WHERE id > 7000")
	r.same()
	tx(t, p, "UPDATE items SET name = 'z'", "TRUNCATE items", "INSERT INTO items SELECT i, 'new' FROM generate_series(1, 3000) i")
	r.same()
}
