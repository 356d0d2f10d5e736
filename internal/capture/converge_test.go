package capture_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/stranglerfig/migrator/internal/capture"
	"github.com/stranglerfig/migrator/internal/sleep"
	"github.com/stranglerfig/migrator/internal/test/pairtest"
	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// childEnv makes the test binary a capture that can be killed.
const childEnv = "MIGRATOR_TEST_CAPTURE"

// seedsEnv is how many seeds the randomized test runs, each for seedSeconds: see the Makefile.
const (
	seedsEnv   = "MIGRATOR_CAPTURE_SEEDS"
	secondsEnv = "MIGRATOR_CAPTURE_SECONDS"
)

type order struct {
	Pair   pairtest.Pair
	Path   string
	Memory int // -1: the default, and all others too
}

func TestMain(m *testing.M) {
	if text := os.Getenv(childEnv); text != "" {
		if err := child(text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	testenv.Main(m)
}

// child prints a line for each progress that it has saved.
func child(text string) error {
	var o order
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		return err
	}
	if err := o.Pair.Open(context.Background()); err != nil {
		return err
	}
	if o.Memory < 0 {
		return (&capture.Capture{Legacy: o.Pair.Legacy, Target: o.Pair.Records(), Ledger: &ledger{path: o.Path}}).Run(context.Background())
	}
	return (&capture.Capture{
		Legacy: o.Pair.Legacy, Target: o.Pair.Records(), Ledger: &ledger{path: o.Path}, Beat: 200 * time.Millisecond, NotAfter: childNotAfter, Memory: 64 << 10, Workers: 2, Batch: 20,
		Report: func(s capture.Status) { fmt.Println(s.Progress.Resume) },
	}).Run(context.Background())
}

const childNotAfter = 2 * time.Second

// Sessions change the same few keys in every way, some as the application does, with messages of their own that
// come late or never, while the process that captures is killed again and again. At the end of the log both
// stores are the same.
func TestCaptureConverges(t *testing.T) {
	t.Parallel()
	seeds, seconds := number(seedsEnv, 2), number(secondsEnv, 2)
	for seed := range seeds {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			if seeds < 5 {
				t.Parallel()
			}
			converge(t, uint64(seed), time.Duration(seconds)*time.Second)
		})
	}
}

func number(name string, standard int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return n
	}
	return standard
}

func converge(t *testing.T, seed uint64, duration time.Duration) {
	ddl := `CREATE TABLE items (id bigint PRIMARY KEY, name text, n int, big text)`
	if seed%2 == 1 {
		ddl = `CREATE TABLE items (id bigint PRIMARY KEY, name text, n int, big text) PARTITION BY HASH (id);
			CREATE TABLE p0 PARTITION OF items FOR VALUES WITH (MODULUS 2, REMAINDER 0); CREATE TABLE p1 PARTITION OF items FOR VALUES WITH (MODULUS 2, REMAINDER 1)`
	}
	into := ""
	if seed%4 == 1 || seed%4 == 2 {
		into = `CREATE TABLE items (id bigint PRIMARY KEY, name text, n int, big text)`
	}
	p := pairtest.New(t, pairtest.Options{DDL: ddl, Into: into})
	if seed%2 == 0 {
		p.Exec(t, "ALTER TABLE items ALTER big SET STORAGE EXTERNAL")
		if seed%4 == 2 {
			p.Exec(t, "ALTER TABLE items REPLICA IDENTITY FULL")
		}
	}
	l := newLedger(t)
	r := &running{Pair: p, t: t, ledger: l, done: make(chan error)}
	text := orderOf(t, r)
	stop := startChild(t, text, nil)
	r.barrier()

	ctx, cancel := context.WithTimeout(t.Context(), duration)
	defer cancel()
	var sessions sync.WaitGroup
	for n := range 4 {
		sessions.Add(1)
		go func() {
			defer sessions.Done()
			s := session{Pair: p, t: t, rand: rand.New(rand.NewPCG(seed, uint64(n))), name: fmt.Sprintf("s%d.%d", seed, n)}
			for ctx.Err() == nil {
				s.transaction(ctx)
			}
		}()
	}
	sessions.Add(1)
	go func() { // columns that are not moved come and go
		defer sessions.Done()
		for n := 0; sleep.For(ctx, 150*time.Millisecond) == nil; n++ {
			ddl := "ADD extra int DEFAULT 1"
			if n%2 == 1 {
				ddl = "DROP IF EXISTS extra"
			}
			_, _ = p.SQL.Exec(ctx, "SET lock_timeout = '100ms'; ALTER TABLE items "+ddl+"; RESET lock_timeout")
		}
	}()
	dice := rand.New(rand.NewPCG(seed, 99))
	kills := 0
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-time.After(time.Duration(200+dice.IntN(600)) * time.Millisecond):
			stop()
			kills++
			stop = startChild(t, text, nil)
		}
	}
	sessions.Wait()
	at := r.position()
	if err := p.Legacy.Beat(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.until("the end of the log", func(p capture.Progress) bool { return p.Resume >= at })
	r.until("the sweeps", func(p capture.Progress) bool { return len(p.Sweeps) == 0 })
	stop()
	p.WantSame(t)
	t.Logf("%d kills", kills)
}

// orderOf tells a child what to capture: the columns as they are now, whatever the table has by then.
func orderOf(t *testing.T, r *running) string {
	t.Helper()
	text, err := json.Marshal(order{Path: r.ledger.path, Pair: pairtest.Pair{
		Config: r.Config, LegacyURL: r.LegacyURL, TargetURL: r.TargetURL, IntoURL: r.IntoURL, Schema: r.Legacy.Schema(),
	}})
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// startChild starts a process that captures; the function that it returns kills it.
func startChild(t *testing.T, text string, started func(pid int)) (kill func()) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+text)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if started != nil {
		started(cmd.Process.Pid)
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		_, _ = io.Copy(io.Discard, out)
	}()
	killed := false
	kill = func() {
		if killed {
			return
		}
		killed = true
		_ = cmd.Process.Kill()
		<-read
		_ = cmd.Wait()
	}
	t.Cleanup(kill)
	return kill
}

// session is one connection of legacy's writers.
type session struct {
	*pairtest.Pair
	t    *testing.T
	rand *rand.Rand
	name string
	n    int
}

const convergeKeys = 12

// transaction makes some changes, and commits them or does not. One that fails (a deadlock, a key that is there)
// is rolled back by the server.
func (s *session) transaction(ctx context.Context) {
	conn, err := s.SQL.Acquire(ctx)
	if err != nil {
		return
	}
	defer conn.Release()
	if s.rand.IntN(4) == 0 {
		s.inline(ctx, conn)
		return
	}
	statements := []string{"BEGIN"}
	saved := false
	for range 1 + s.rand.IntN(6) {
		statements = append(statements, s.change())
		switch s.rand.IntN(8) {
		case 0:
			statements, saved = append(statements, "SAVEPOINT a"), true
		case 1:
			if saved {
				statements = append(statements, "ROLLBACK TO a")
			}
		}
	}
	end := "COMMIT"
	if s.rand.IntN(8) == 0 {
		end = "ROLLBACK"
	}
	if _, err := conn.Exec(ctx, strings.Join(append(statements, end), "; ")); err != nil {
		_, _ = conn.Exec(context.WithoutCancel(ctx), "ROLLBACK")
	}
}

func (s *session) change() string {
	s.n++
	key, other := s.rand.IntN(convergeKeys), s.rand.IntN(convergeKeys)
	name := fmt.Sprintf("'%s.%d'", s.name, s.n)
	big := fmt.Sprintf("repeat('%s.%d ', 500)", s.name, s.n)
	switch s.rand.IntN(20) {
	case 0, 1, 2:
		return fmt.Sprintf("INSERT INTO items VALUES (%d, %s, %d, %s) ON CONFLICT DO NOTHING", key, name, s.n, big)
	case 3, 4, 5:
		return fmt.Sprintf("INSERT INTO items VALUES (%d, %s, %d, %s) ON CONFLICT (id) DO UPDATE SET name = excluded.name, n = excluded.n", key, name, s.n, big)
	case 6, 7:
		return fmt.Sprintf("DELETE FROM items WHERE id = %d", key)
	case 8, 9, 10:
		return fmt.Sprintf("UPDATE items SET name = %s WHERE id = %d", name, key)
	case 11, 12:
		return fmt.Sprintf("UPDATE items SET n = n + 1 WHERE id IN (%d, %d)", key, other)
	case 13:
		return fmt.Sprintf("UPDATE items SET big = %s WHERE id = %d", big, key)
	case 14, 15:
		return fmt.Sprintf("UPDATE items SET id = %d WHERE id = %d AND NOT EXISTS (SELECT FROM items WHERE id = %d)", other, key, other)
	case 16:
		return fmt.Sprintf("UPDATE items SET id = -1 WHERE id = %d; UPDATE items SET id = %d WHERE id = %d; UPDATE items SET id = %d WHERE id = -1", key, key, other, other)
	case 17:
		return fmt.Sprintf("INSERT INTO items SELECT i, %s, %d FROM generate_series(1000, 1400) i ON CONFLICT (id) DO UPDATE SET name = excluded.name", name, s.n)
	case 18:
		if s.rand.IntN(10) == 0 {
			return "TRUNCATE items"
		}
		return "DELETE FROM items WHERE id >= 1000"
	}
	return "SELECT 1"
}

// inline is a write of the application, whose own message comes late, or never.
func (s *session) inline(ctx context.Context, conn *pgxpool.Conn) {
	s.n++
	key := s.rand.IntN(convergeKeys)
	sql := fmt.Sprintf("UPDATE items SET name = '%s.%d' WHERE id = %d RETURNING id::text, name, n::text, big, migrator_legacy.version('move')", s.name, s.n, key)
	deleted := s.rand.IntN(4) == 0
	if deleted {
		sql = fmt.Sprintf("DELETE FROM items WHERE id = %d RETURNING id::text, name, n::text, big, migrator_legacy.version('move')", key)
	}
	now, err := s.Records().Now(ctx)
	if err != nil {
		return
	}
	var values [4]*string
	var v record.Version
	if err := conn.QueryRow(ctx, sql).Scan(&values[0], &values[1], &values[2], &values[3], &v); err != nil {
		return // no such row
	}
	w := store.Write{Key: record.Key(*values[0]), Version: v, Deleted: deleted, NotAfter: now.Add(childNotAfter)}
	for _, text := range values {
		value := record.NullValue
		if text != nil {
			value = record.TextValue(*text)
		}
		w.Record = append(w.Record, value)
	}
	switch s.rand.IntN(3) {
	case 0:
		return // it is lost
	case 1:
		time.Sleep(time.Duration(s.rand.IntN(100)) * time.Millisecond)
	}
	_, _ = s.Records().Apply(context.WithoutCancel(ctx), []store.Write{w})
}
