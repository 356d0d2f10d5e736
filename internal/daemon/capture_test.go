package daemon

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/stranglerfig/migrator/internal/app"
	"github.com/stranglerfig/migrator/internal/capture"
	"github.com/stranglerfig/migrator/internal/openstore"
	"github.com/stranglerfig/migrator/internal/sleep"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/state/captures"
	"github.com/stranglerfig/migrator/internal/test/statetest"
	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
)

// capturing is a migration whose changes a daemon captures.
type capturing struct {
	*testing.T
	d      *Daemon
	m      *Migration
	legacy *pgxpool.Pool
	stop   context.CancelFunc
	done   chan error
	log    *testenv.Buffer
	opened *app.Job // of names
}

func newCapturing(t *testing.T) *capturing {
	t.Helper()
	legacyURL, targetURL, path := testenv.PostgresURL(t), testenv.RedisURL(t), filepath.Join(t.TempDir(), "m.yaml")
	c := &capturing{T: t, log: &testenv.Buffer{}}
	ctx := t.Context()
	var err error
	c.legacy, err = pgxpool.New(ctx, legacyURL)
	c.check(err)
	t.Cleanup(c.legacy.Close)
	c.exec(`CREATE TABLE items (id bigint PRIMARY KEY, name text)`)
	file := "name: items\nenvironment: staging\nlegacy: {store: postgres, url: '" + legacyURL + "', table: items}\n" +
		"target: {store: redis, url: '" + targetURL + "', key: 'item:{id}'}\ncapture: {mode: beside, beat: 200ms}\n"
	c.check(os.WriteFile(path, []byte(file), 0o600))
	m, err := openstore.Load(path)
	c.check(err)
	st, err := state.Open(ctx, statetest.URL(t))
	c.check(err)
	t.Cleanup(st.Close)
	_, err = app.Apply(ctx, st, m, false, app.ColumnFlags{})
	c.check(err)
	c.m = &Migration{File: path, Config: m}
	c.d = &Daemon{State: st, Migrations: []*Migration{c.m}, Log: slog.New(slog.NewTextHandler(c.log, nil))}
	c.start()
	t.Cleanup(func() {
		if c.stop != nil {
			c.end()
		}
		if t.Failed() {
			t.Log(c.log)
		}
	})
	return c
}

func (c *capturing) start() {
	ctx, stop := context.WithCancel(context.WithoutCancel(c.Context()))
	capturer := c.d.capturer(c.m)
	capturer.Poll = 50 * time.Millisecond
	c.stop, c.done = stop, make(chan error, 1)
	go func() { c.done <- capturer.Run(ctx) }()
}

func (c *capturing) end() {
	c.Helper()
	c.stop()
	c.stop = nil
	c.check(<-c.done)
}

func (c *capturing) check(err error) {
	c.Helper()
	if err != nil {
		c.Fatal(err)
	}
}

func (c *capturing) exec(sql string) {
	c.Helper()
	_, err := c.legacy.Exec(c.Context(), sql)
	c.check(err)
}

func (c *capturing) moveTo(to phases.Phase) {
	c.Helper()
	_, err := c.d.State.Transition(c.Context(), "items", func(e phases.Snapshot) (phases.Move, error) {
		cause := phases.CauseAdvance
		if to == phases.Legacy {
			cause = phases.CauseRollback
		}
		return phases.Move{From: e.Status.Route, To: phases.Route{Phase: to}, Cause: cause}, nil
	})
	c.check(err)
}

// until waits for what the state shows.
func (c *capturing) until(what string, ok func(e phases.Snapshot) bool) (e phases.Snapshot) {
	c.Helper()
	if !testenv.Reached(c.Context(), func() bool {
		var err error
		e, err = c.d.State.Snapshot(c.Context(), "items")
		c.check(err)
		return ok(e)
	}) {
		c.Fatalf("%s: %+v", what, e.Capture)
	}
	return e
}

func (c *capturing) job() *app.Job {
	c.Helper()
	j, err := app.OpenJob(c.Context(), c.d.State, c.m.Config)
	c.check(err)
	c.Cleanup(j.CloseStores)
	return j
}

func (c *capturing) backfill() {
	c.Helper()
	_, err := c.job().Backfill(c.Context(), app.Backfill{Again: true})
	c.check(err)
}

// target waits until the target has the names.
func (c *capturing) target(want ...string) {
	c.Helper()
	for began := time.Now(); ; {
		got := c.names()
		if slices.Equal(got, want) {
			return
		}
		if time.Since(began) > 3*time.Minute {
			c.Fatalf("the target has %q", got)
		}
		c.check(sleep.For(c.Context(), 20*time.Millisecond))
	}
}

// names are those that the target has now.
func (c *capturing) names() (got []string) {
	c.Helper()
	if c.opened == nil {
		c.opened = c.job()
	}
	entries, err := c.opened.Target.Get(c.Context(), []record.Key{"1", "2", "3"})
	c.check(err)
	for _, e := range entries {
		if len(e.Record) == 2 {
			got = append(got, e.Record[1].Text)
		}
	}
	return got
}

func (c *capturing) remains(want int) {
	c.Helper()
	var n int
	c.check(c.legacy.QueryRow(c.Context(), `SELECT (SELECT count(*) FROM pg_replication_slots WHERE database = current_database()) + (SELECT count(*) FROM pg_publication)`).Scan(&n))
	if n != want {
		c.Errorf("legacy has %d slots and publications, want %d", n, want)
	}
}

func runs(e phases.Snapshot) bool { return e.Capture.Runs(e.Now) && e.Capture.Slot != "" }

// TestDaemonCaptures: begun with the phases behind legacy, by another leader where the first one ended, removed in legacy.
func TestDaemonCaptures(t *testing.T) {
	t.Parallel()
	c := newCapturing(t)
	c.exec(`INSERT INTO items VALUES (1, 'a')`)
	c.moveTo(phases.ShadowWrite)
	c.until("it runs", runs)
	c.remains(2)
	c.backfill()
	c.until("it is behind the barrier", func(e phases.Snapshot) bool { return e.Capture.Barrier != "" })
	c.exec(`INSERT INTO items VALUES (2, 'b')`)
	c.target("a", "b")
	c.end()
	c.exec(`UPDATE items SET name = 'c' WHERE id = 1`)
	c.start()
	c.target("c", "b")
	e := c.until("the rate and the limit are known", func(e phases.Snapshot) bool { return runs(e) && e.Capture.LimitBytes > 0 && e.Capture.Applied >= 2 })
	if l := e.Capture; l.LimitBytes != 10<<30 || l.LimitBy != limitFile || l.HeldBytes <= 0 || l.Position == "" || l.Error != "" {
		t.Errorf("%+v", l)
	}
	c.exec(`UPDATE items SET name = 'd' WHERE id = 2`)
	asked := c.until("the state answers", runs).Now
	c.until("it has caught up", func(e phases.Snapshot) bool { return !e.Capture.CaughtUp.Before(asked) })
	if got := c.names(); !slices.Equal(got, []string{"c", "d"}) {
		t.Errorf("it has caught up, and the target has %q", got)
	}
	s, err := app.ReadStatus(c.Context(), c.d.State, "items")
	c.check(err)
	if r := s.Reentry; r == nil || r.Rows != 1 || r.Rate <= 0 || r.Copy <= 0 {
		t.Errorf("what it costs to begin again: %+v", r)
	}
	c.moveTo(phases.Legacy)
	c.until("it is forgotten", func(e phases.Snapshot) bool { return e.Capture.Slot == "" && !e.Capture.Running })
	c.remains(0)
	c.moveTo(phases.ShadowWrite)
	c.until("it runs again", runs)
}

// TestWhenCaptureHadCaughtUp: the moment is of the state's clock, before legacy's log was read, and known once the target
// has what was before the log's end.
func TestWhenCaptureHadCaughtUp(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	st, err := state.Open(ctx, statetest.URL(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(st.Close)
	ledger := captures.New(st.Pool(), "items", st.MarkUnclean)
	now := func() time.Time {
		at, err := ledger.Now(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	var read time.Time
	r := &captureReporter{ledger: ledger, end: func(context.Context) (pglogrepl.LSN, error) {
		read = now()
		return 100, nil
	}}
	look := func(s capture.Status) time.Time {
		r.last.CaughtUp = r.caughtUp(ctx, s)
		return r.last.CaughtUp
	}
	at := func(resume, idle pglogrepl.LSN) capture.Status {
		return capture.Status{Progress: capture.Progress{Era: 1, Resume: resume}, Idle: idle}
	}
	began := now()
	if got := look(at(99, 0)); !got.IsZero() {
		t.Errorf("before any was awaited: %s", got)
	}
	first := read
	fenced, swept, early := at(200, 0), at(200, 0), at(200, 0)
	fenced.Progress.Fence, swept.Progress.Sweeps, early.Progress.Era = "a", []capture.Sweep{{}}, 0
	for _, s := range []capture.Status{at(99, 99), fenced, swept, early} {
		if got := look(s); !got.IsZero() || !read.Equal(first) {
			t.Errorf("%+v: %s", s, got)
		}
	}
	got := look(at(99, 100))
	if got.Before(began) || !got.Before(first) || read.Equal(first) {
		t.Errorf("caught up at %s, begun at %s, the log was read at %s and %s", got, began, first, read)
	}
	if again := look(at(99, 99)); !again.Equal(got) {
		t.Errorf("it went from %s to %s", got, again)
	}
}

// TestDaemonBeginsAgainWhereChangesAreLost: with another slot, and what it brought before counts for nothing.
func TestDaemonBeginsAgainWhereChangesAreLost(t *testing.T) {
	t.Parallel()
	for why, sql := range map[string]string{
		"the publication":            `ALTER PUBLICATION %s SET (publish = 'insert')`,
		"another table has the name": `BEGIN; ALTER TABLE items RENAME TO old; CREATE TABLE items (LIKE old INCLUDING ALL); COMMIT`,
	} {
		t.Run(why, func(t *testing.T) {
			t.Parallel()
			c := newCapturing(t)
			c.moveTo(phases.ShadowWrite)
			e := c.until("it runs", runs)
			c.exec(strings.ReplaceAll(sql, "%s", e.Capture.Slot))
			e = c.until("it is lost, and begins again", func(e phases.Snapshot) bool { return !e.Capture.LostAt.IsZero() && e.Capture.Lost == "" && runs(e) })
			if !strings.Contains(e.Status.Unclean, why) || e.Capture.Barrier != "" {
				t.Errorf("%+v, %+v", e.Capture, e.Status)
			}
			if n := strings.Count(c.log.String(), `msg="changes of legacy are lost`); n != 1 {
				t.Errorf("the log has it %d times", n)
			}
			c.remains(2)
			c.exec(`INSERT INTO items VALUES (1, 'a')`)
			c.backfill()
			c.exec(`INSERT INTO items VALUES (2, 'b')`)
			c.target("a", "b")
		})
	}
}

// TestDaemonGivesTheSlotUp: also while capture can't run.
func TestDaemonGivesTheSlotUp(t *testing.T) {
	t.Parallel()
	c := newCapturing(t)
	c.moveTo(phases.ShadowWrite)
	c.until("it runs", runs)
	c.backfill()
	c.until("it is behind the barrier", func(e phases.Snapshot) bool { return e.Capture.Barrier != "" })
	c.m.Config.Capture.MaxHeld = 64 << 20
	file, err := os.ReadFile(c.m.File)
	c.check(err)
	c.check(os.WriteFile(c.m.File, []byte(strings.Replace(string(file), "beat: 200ms", "beat: 200ms, max_held: 64MiB", 1)), 0o600))
	c.m.Config, err = openstore.Load(c.m.File)
	c.check(err)
	_, err = app.Apply(t.Context(), c.d.State, c.m.Config, false, app.ColumnFlags{})
	c.check(err)
	c.until("the new limit", func(e phases.Snapshot) bool { return runs(e) && e.Capture.LimitBytes == 64<<20 })
	c.exec(`ALTER TABLE items DROP COLUMN name`)
	c.exec(`INSERT INTO items VALUES (7)`)
	e := c.until("the columns are not those that were applied", func(e phases.Snapshot) bool { return e.Capture.Error != "" || e.Capture.Lost != "" })
	if !strings.Contains(e.Capture.Error, "columns") || e.Capture.Lost != "" {
		t.Errorf("%+v", e.Capture)
	}
	c.exec(`CREATE TABLE other (a text)`)
	c.exec(`ALTER TABLE other ALTER a SET STORAGE EXTERNAL`)
	c.exec(`INSERT INTO other SELECT repeat(md5(i::text), 1000) FROM generate_series(1, 2500) i`) // 80 MB
	e = c.until("it is given up", func(e phases.Snapshot) bool { return !e.Capture.LostAt.IsZero() })
	if !strings.Contains(e.Status.Unclean, "given up") {
		t.Errorf("%+v, %+v", e.Capture, e.Status)
	}
}
