package capture_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/stranglerfig/migrator/internal/backfill"
	"github.com/stranglerfig/migrator/internal/capture"
	"github.com/stranglerfig/migrator/internal/sleep"
	"github.com/stranglerfig/migrator/internal/test/pairtest"
	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// soakEnv is how many seconds the load lasts: see the Makefile.
const soakEnv = "MIGRATOR_CAPTURE_SOAK"

// soakScript is what the standard scripts of pgbench leave out: deletes, upserts, key changes, and several changes
// of a key in a transaction, some of which are rolled back.
const soakScript = `\set a random(1, 100000)
\set b random(100001, 100500)
\set c random(200000, 2000000000)
\set d random(1, 10)
BEGIN;
UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid = :a;
SAVEPOINT s;
UPDATE pgbench_accounts SET abalance = -7 WHERE aid = :a;
ROLLBACK TO s;
UPDATE pgbench_accounts SET abalance = abalance * 2, filler = 'twice' WHERE aid = :a;
DELETE FROM pgbench_accounts WHERE aid = :b;
INSERT INTO pgbench_accounts (aid, bid, abalance, filler) VALUES (:b, 1, :a, 'upserted') ON CONFLICT (aid) DO UPDATE SET abalance = excluded.abalance + 1;
UPDATE pgbench_accounts SET aid = :c WHERE aid = :b AND NOT EXISTS (SELECT FROM pgbench_accounts WHERE aid = :c);
DELETE FROM pgbench_accounts WHERE aid = :c AND :d > 2;
INSERT INTO pgbench_tellers (tid, bid, tbalance) VALUES (100 + :d, 1, :a) ON CONFLICT (tid) DO UPDATE SET tbalance = excluded.tbalance;
END;
`

var soakTables = []struct{ table, key, ddl string }{
	{"pgbench_accounts", "aid", "CREATE TABLE pgbench_accounts (aid int PRIMARY KEY, bid int, abalance int, filler char(84))"},
	{"pgbench_tellers", "tid", "CREATE TABLE pgbench_tellers (tid int PRIMARY KEY, bid int, tbalance int, filler char(84))"},
	{"pgbench_branches", "bid", "CREATE TABLE pgbench_branches (bid int PRIMARY KEY, bbalance int, filler char(88))"},
}

// pgbench and an application of messages of its own change three tables in each of two databases, which six processes
// bring into Redis and into another PostgreSQL. They are killed, columns come and go, a slot is dropped, and the server fails over. At the
// end of the log no record differs. The long test of this package: make capture-soak.
func TestCaptureSoak(t *testing.T) {
	seconds := number(soakEnv, 0)
	if seconds == 0 {
		t.Skip(soakEnv + " is not set: make capture-soak")
	}
	for seed := range number(seedsEnv, 1) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) { soak(t, uint64(seed), time.Duration(seconds)*time.Second) })
	}
}

// soaked is one migration of the soak.
type soaked struct {
	*running
	kill func()
}

func soak(t *testing.T, seed uint64, duration time.Duration) {
	pgbench, err := exec.LookPath("pgbench")
	if err != nil {
		t.Skip(err)
	}
	primary := testenv.Postgres(t, testenv.PostgresOptions{Settings: map[string]string{"synchronous_commit": "on", "max_replication_slots": "20", "max_wal_senders": "20"}})
	// A table has one migration.
	databases := map[bool]string{false: "into_redis", true: "into_postgres"}
	setup := pairtest.SQL(t, primary.URL())
	for _, name := range databases {
		if _, err := setup.Exec(t.Context(), "CREATE DATABASE "+name); err != nil {
			t.Fatal(err)
		}
		run(t, pgbench, "-i", "-q", "-s", "1", database(t, primary.URL(), name))
	}
	standby := testenv.PostgresStandby(t, primary, "standby")
	dice := rand.New(rand.NewPCG(seed, 7))

	var all []*soaked
	for _, into := range []bool{false, true} {
		for _, of := range soakTables {
			o := pairtest.Options{Legacy: database(t, primary.URL(), databases[into]), DDL: "-", Table: of.table, Name: of.table, Key: of.table + ":{" + of.key + "}"}
			if into {
				o.Into, o.Name = of.ddl, of.table+"_pg"
			}
			p := pairtest.New(t, o)
			s := &soaked{running: prepare(t, p, nil)}
			s.Schema = s.Legacy.Schema()
			all = append(all, s)
			s.spawn()
			s.copyAll()
		}
	}
	kills, script := 0, filepath.Join(t.TempDir(), "script.sql")
	if err := os.WriteFile(script, []byte(soakScript), 0o600); err != nil {
		t.Fatal(err)
	}
	// Half of the time on each server.
	for half, server := range []*testenv.PostgresServer{primary, standby} {
		if half == 1 {
			failover(t, all, standby)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var beside, loads sync.WaitGroup
		for n, into := range []bool{false, true} {
			url := database(t, server.URL(), databases[into])
			sql, accounts, writes := pairtest.SQL(t, url), all[n*len(soakTables)], rand.New(rand.NewPCG(seed, uint64(8+n)))
			beside.Go(func() { columns(ctx, sql) })
			beside.Go(func() { accounts.inline(ctx, writes) })
			loads.Go(func() {
				out, err := exec.CommandContext(t.Context(), pgbench, "-n", "-c", "8", "-j", "2", "-T", fmt.Sprint(max(1, int(duration.Seconds()/2))), "--max-tries=1000",
					fmt.Sprintf("--random-seed=%d", seed+uint64(half)), "-b", "tpcb-like", "-b", "simple-update", "-f", script, url).CombinedOutput()
				if err != nil {
					t.Errorf("pgbench: %v\n%s", err, out)
				}
				for line := range strings.Lines(string(out)) {
					if strings.HasPrefix(line, "number of transactions actually") || strings.HasPrefix(line, "number of failed transactions") {
						t.Logf("%s on server %d: %s", databases[into], half+1, strings.TrimSpace(line))
					}
				}
			})
		}
		done := make(chan struct{})
		go func() { defer close(done); loads.Wait() }()
		dropped := half == 1 // once, on the first server
		for running := true; running; {
			select {
			case <-done:
				running = false
			case <-time.After(duration/24 + time.Duration(dice.IntN(200))*time.Millisecond):
				all[dice.IntN(len(all))].again()
				if kills++; kills >= 4 && !dropped {
					dropped = true
					all[dice.IntN(len(all))].dropSlot()
				}
			}
		}
		cancel()
		beside.Wait()
	}
	for _, s := range all {
		at := s.position()
		if err := s.Legacy.Beat(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.until("the end of the log", func(p capture.Progress) bool { return p.Resume >= at && len(p.Sweeps) == 0 })
	}
	for _, s := range all {
		s.kill()
		if diffs := s.Diff(t); len(diffs) > 0 {
			t.Errorf("%s: %d keys differ, the first: %s", s.Config.Name, len(diffs), diffs[:min(3, len(diffs))])
		}
	}
	t.Logf("%d kills", kills)
}

func run(t *testing.T, program string, args ...string) {
	t.Helper()
	if out, err := exec.Command(program, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", program, err, out)
	}
}

func (s *soaked) spawn() {
	s.t.Helper()
	s.done = make(chan error) // of this process, which captures nothing itself
	s.kill = startChild(s.t, orderOf(s.t, s.running), nil)
}

// again kills the process, and starts another one.
func (s *soaked) again() {
	s.kill()
	s.spawn()
}

// copyAll takes the barrier and copies what was before the slot.
func (s *soaked) copyAll() {
	s.t.Helper()
	s.barrier()
	b := backfill.Backfill{
		Legacy: s.Legacy, Barrier: s.Legacy, Locker: s.Legacy, Target: s.Records(), NotAfter: childNotAfter,
		Ledger: &pairtest.Backfills{Path: filepath.Join(s.t.TempDir(), "backfill")},
	}
	if _, err := b.Run(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
}

// lose begins again what is lost: capture first, then the barrier and the copy.
func (s *soaked) lose() {
	s.t.Helper()
	if err := (&capture.Capture{Legacy: s.Legacy, Target: s.Records(), Ledger: s.ledger}).Forget(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
	s.spawn()
	s.copyAll()
}

func (s *soaked) dropSlot() {
	s.t.Helper()
	s.kill()
	for began := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		_, err := s.SQL.Exec(s.t.Context(), "SELECT pg_drop_replication_slot($1)", s.Legacy.CaptureName())
		if err == nil {
			break
		}
		if time.Since(began) > 2*time.Minute {
			s.t.Fatal(err)
		}
	}
	var gone *capture.LostError
	err := (&capture.Capture{Legacy: s.Legacy, Target: s.Records(), Ledger: s.ledger}).Run(s.t.Context())
	if !errors.As(err, &gone) {
		s.t.Fatalf("a dropped slot: %v", err)
	}
	s.lose()
}

// failover promotes the standby once it has all, and goes on there.
func failover(t *testing.T, all []*soaked, standby *testenv.PostgresServer) {
	t.Helper()
	for _, s := range all {
		s.kill()
	}
	at := all[0].position()
	q := pairtest.SQL(t, standby.URL())
	testenv.Await(t, "the standby", func() (done bool) {
		err := q.QueryRow(t.Context(), "SELECT pg_last_wal_replay_lsn() >= $1::text::pg_lsn", at.String()).Scan(&done)
		return err == nil && done
	})
	if _, err := q.Exec(t.Context(), "SELECT pg_promote()"); err != nil {
		t.Fatal(err)
	}
	for _, s := range all {
		promoted := *s.Pair
		u, err := url.Parse(s.LegacyURL)
		if err != nil {
			t.Fatal(err)
		}
		promoted.LegacyURL = database(t, standby.URL(), strings.TrimPrefix(u.Path, "/"))
		promoted.SQL = pairtest.SQL(t, promoted.LegacyURL)
		if err := promoted.Open(t.Context()); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(promoted.Close)
		s.running = &running{Pair: &promoted, t: t, ledger: s.ledger}
		var gone *capture.LostError
		err = (&capture.Capture{Legacy: s.Legacy, Target: s.Records(), Ledger: s.ledger}).Run(t.Context())
		if !errors.As(err, &gone) {
			t.Fatalf("%s after the failover: %v", s.Config.Name, err)
		}
		s.lose()
	}
}

// columns lets columns that are not moved come and go.
func columns(ctx context.Context, sql *pgxpool.Pool) {
	for n := 0; sleep.For(ctx, 300*time.Millisecond) == nil; n++ {
		ddl := "ADD IF NOT EXISTS soaked int DEFAULT 1"
		if n/len(soakTables)%2 == 1 {
			ddl = "DROP IF EXISTS soaked"
		}
		_, _ = sql.Exec(ctx, "SET lock_timeout = '50ms'; ALTER TABLE "+soakTables[n%len(soakTables)].table+" "+ddl+"; RESET lock_timeout")
	}
}

// inline is an application with messages of its own, some of which come late, or never.
func (s *soaked) inline(ctx context.Context, dice *rand.Rand) {
	for sleep.For(ctx, 2*time.Millisecond) == nil {
		now, err := s.Records().Now(ctx)
		if err != nil {
			continue
		}
		var values [4]*string
		w := store.Write{NotAfter: now.Add(childNotAfter)}
		err = s.SQL.QueryRow(ctx, "UPDATE pgbench_accounts SET abalance = abalance + 1000 WHERE aid = $1 RETURNING aid::text, bid::text, abalance::text, filler, migrator_legacy.version($2)",
			1+dice.IntN(1000), s.Config.Name).Scan(&values[0], &values[1], &values[2], &values[3], &w.Version)
		if err != nil || dice.IntN(3) == 0 {
			continue
		}
		if dice.IntN(3) == 0 {
			time.Sleep(time.Duration(dice.IntN(50)) * time.Millisecond)
		}
		w.Key = record.Key(*values[0])
		for _, text := range values {
			value := record.NullValue
			if text != nil {
				value = record.TextValue(*text)
			}
			w.Record = append(w.Record, value)
		}
		_, _ = s.Records().Apply(context.WithoutCancel(ctx), []store.Write{w})
	}
}

func database(t *testing.T, server, name string) string {
	t.Helper()
	u, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	u.Path = "/" + name
	return u.String()
}
