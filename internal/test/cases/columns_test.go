package cases

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/dual/kit"
	"github.com/stranglerfig/migrator/dual/pgfleet"
	"github.com/stranglerfig/migrator/internal/app"
	"github.com/stranglerfig/migrator/internal/control"
	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/openstore"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/test/statetest"
	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/reconcile"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
	"github.com/stranglerfig/migrator/store/postgres"
	"github.com/stranglerfig/migrator/store/redis"
)

// table is one migration as its commands and instances see it: each opens it by the migration file,
// as of then.
type table struct {
	t        *testing.T
	ctx      context.Context
	file     string // lines after the stores' URLs
	toTarget string // the lines of target
	legacy   string // URLs
	target   string
	stateURL string
	state    *state.Store
	db       *pgxpool.Pool // legacy
}

const (
	toRedis    = `{store: redis, url: "%s", key: "thing:{id}"}`
	toPostgres = `{store: postgres, url: "%s", table: things}`
)

func newTable(t *testing.T, toTarget string) *table {
	t.Helper()
	w := &table{t: t, ctx: t.Context(), toTarget: toTarget, legacy: testenv.PostgresURL(t), stateURL: statetest.URL(t)}
	w.target = testenv.RedisURL(t)
	const ddl = `CREATE TABLE things (id bigint PRIMARY KEY, a text)`
	if toTarget == toPostgres {
		w.target = testenv.PostgresURL(t)
		w.sql(w.target, ddl)
	}
	w.sql(w.legacy, ddl+`; INSERT INTO things SELECT i, 'thing ' || i FROM generate_series(1, 10) i`)
	_, _, err := state.Migrate(w.ctx, w.stateURL)
	w.check(err)
	w.state, err = state.Open(w.ctx, w.stateURL)
	w.check(err)
	t.Cleanup(w.state.Close)
	w.db, err = pgxpool.New(w.ctx, w.legacy)
	w.check(err)
	t.Cleanup(w.db.Close)
	w.mustApply(app.ColumnFlags{})
	return w
}

func (w *table) check(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *table) sql(url, statements string) {
	w.t.Helper()
	conn, err := pgx.Connect(w.ctx, url)
	w.check(err)
	defer func() { _ = conn.Close(w.ctx) }()
	_, err = conn.PgConn().Exec(w.ctx, statements).ReadAll()
	w.check(err)
}

// m reads the migration file.
func (w *table) m() *migration.Config {
	w.t.Helper()
	m, err := openstore.Parse("things.yaml", fmt.Appendf(nil, `
name: things
environment: rehearsal
legacy: {store: postgres, url: "%s", table: things}
target: `+w.toTarget+`
phases:
  shadow_write: {for: 0s}
  dual_read: {steps: [100], over: 0s}
  cutover: {steps: [100], over: 0s}
  grace: {for: 0s}
  retain: {for: 0s}
  approval: {for: []}
gates: {off: a test without traffic}
writing: {not_after: 500ms, deadline: 500ms, tombstones: 1h}
reconcile: {pause: 5ms}
%s`, w.legacy, w.target, w.file), nil)
	w.check(err)
	return m
}

func (w *table) apply(flags app.ColumnFlags) error {
	_, err := app.Apply(w.ctx, w.state, w.m(), false, flags)
	return err
}

func (w *table) mustApply(flags app.ColumnFlags) {
	w.t.Helper()
	w.check(w.apply(flags))
}

// refuses requires an apply that is refused for good, and says what.
func (w *table) refuses(flags app.ColumnFlags, want string) {
	w.t.Helper()
	err := w.apply(flags)
	var input *app.InputError
	if !errors.As(err, &input) || !strings.Contains(explained(err), want) {
		w.t.Errorf("apply %+v: %v, want %q", flags, explained(err), want)
	}
}

func (w *table) job() *app.Job {
	w.t.Helper()
	j, err := app.OpenJob(w.ctx, w.state, w.m())
	w.check(err)
	return j
}

func (w *table) with(f func(*app.Job) error) error {
	w.t.Helper()
	j := w.job()
	defer j.CloseStores()
	return f(j)
}

func (w *table) backfill() error {
	return w.with(func(j *app.Job) error {
		_, err := j.Backfill(w.ctx, app.Backfill{})
		return err
	})
}

func (w *table) reconciled() (run reconcile.Run) {
	w.t.Helper()
	w.check(w.with(func(j *app.Job) (err error) {
		run, _, err = j.Reconcile(w.ctx, app.Reconcile{RunOptions: reconcile.RunOptions{Full: true, TwoWay: true}})
		return err
	}))
	return run
}

func (w *table) clean() {
	w.t.Helper()
	if run := w.reconciled(); run.Differences != 0 || run.Status != reconcile.Done {
		w.t.Errorf("run %d, %s: %d differences", run.ID, run.Status, run.Differences)
	}
}

func (w *table) advance() error {
	m, err := app.OpenMoves(w.ctx, w.state, "things", w.m(), "things.yaml", true, nil)
	if err != nil {
		return err
	}
	defer m.Close()
	m.Judge = nil
	m.Poll = 5 * time.Millisecond
	_, err = m.Advance(w.ctx, control.Advance{})
	return err
}

// upto takes the migration forward, with a backfill and the reconciles that the gates want.
func (w *table) upto(phase phases.Phase) {
	w.t.Helper()
	for w.status().Route.Phase != phase {
		switch w.status().Route.Phase {
		case phases.ShadowWrite:
			w.check(w.backfill())
		case phases.DualRead, phases.Cutover, phases.Grace:
			w.clean()
		default:
		}
		w.check(w.advance())
		w.settles()
	}
}

// lands waits until what an unclean instance may have had under way has landed.
func (w *table) lands() {
	w.t.Helper()
	for e := w.snapshot(); !e.Now.After(e.Status.Dirty); e = w.snapshot() {
		time.Sleep(10 * time.Millisecond) // of the state database's clock
	}
}

func (w *table) settles() {
	w.t.Helper()
	c := control.Controller{State: w.state, Migration: "things", Poll: 5 * time.Millisecond}
	w.check(c.AwaitSettled(w.ctx, time.Minute))
}

func (w *table) status() phases.Status { return w.snapshot().Status }

func (w *table) snapshot() phases.Snapshot {
	w.t.Helper()
	e, err := w.state.Snapshot(w.ctx, "things")
	w.check(err)
	return e
}

// closed requires that a step forward is refused by a gate.
func (w *table) closed(gate string) {
	w.t.Helper()
	err := w.advance()
	var closed *control.GatesClosedError
	if !errors.As(err, &closed) || !slices.ContainsFunc(phases.Closed(closed.Gates), func(g phases.GateResult) bool { return g.Gate == gate }) {
		w.t.Errorf("advance: %v, want the gate %s closed", err, gate)
	}
}

// inTarget is the record of a key as the target has it under the applied columns.
func (w *table) inTarget(id int64) (text string) {
	w.t.Helper()
	w.check(w.with(func(j *app.Job) error {
		entries, err := j.Target.Get(w.ctx, []record.Key{key(id)})
		if err != nil || entries[0].Presence != store.Live {
			return errors.Join(err, fmt.Errorf("record %d is %s", id, entries[0].Presence))
		}
		for i, f := range j.Schema.Fields {
			text += " " + f.Name + "=" + entries[0].Record[i].Text
		}
		return nil
	}))
	return strings.TrimSpace(text)
}

func (w *table) inLegacy(id int64, column string) (text string) {
	w.t.Helper()
	w.check(w.db.QueryRow(w.ctx, "SELECT coalesce("+column+"::text, 'NULL') FROM things WHERE id = $1", id).Scan(&text))
	return text
}

// oldThing is what the code of before knows, newThing that of after.
type oldThing struct {
	ID int64   `db:"id"`
	A  *string `db:"a"`
}

type newThing struct {
	ID    int64   `db:"id"`
	A     *string `db:"a"`
	Stock *int64  `migrator:"stock,optional"`
}

// instance is a running application; leave ends it.
type instance struct {
	put   func(id int64, a string) error
	get   func(id int64) (string, error)
	leave func()
}

func text(s *string) string {
	if s == nil {
		return "NULL"
	}
	return *s
}

func (w *table) old() (*instance, error) {
	return start(w, func(id int64, a string) oldThing { return oldThing{id, &a} }, func(v oldThing) string { return text(v.A) }, "SELECT id, a FROM things WHERE id = $1",
		func(r pgx.Row, v *oldThing) error { return r.Scan(&v.ID, &v.A) })
}

func (w *table) new() (*instance, error) {
	stock := int64(7)
	return start(w, func(id int64, a string) newThing { return newThing{id, &a, &stock} }, func(v newThing) string { return text(v.A) }, "SELECT id, a, stock FROM things WHERE id = $1",
		func(r pgx.Row, v *newThing) error { return r.Scan(&v.ID, &v.A, &v.Stock) })
}

func (w *table) mustOld() *instance { return w.must(w.old()) }
func (w *table) mustNew() *instance { return w.must(w.new()) }

func (w *table) must(i *instance, err error) *instance {
	w.t.Helper()
	w.check(err)
	return i
}

func start[V any](w *table, of func(int64, string) V, textOf func(V) string, query string, scan func(pgx.Row, *V) error) (*instance, error) {
	m := w.m()
	r, err := kit.Open(w.ctx, m, kit.Options{StateURL: w.stateURL}, kit.Binding[int64, V]{Read: func(ctx context.Context, id int64) (v V, found bool, err error) {
		err = scan(w.db.QueryRow(ctx, query, id), &v)
		if errors.Is(err, pgx.ErrNoRows) {
			return v, false, nil
		}
		return v, err == nil, err
	}})
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(w.ctx))
	over := make(chan error, 1)
	go func() {
		over <- r.Serve(ctx, func(ctx context.Context) error { <-ctx.Done(); return nil })
	}()
	left := false
	i := &instance{
		put: func(id int64, a string) error {
			v := of(id, a)
			return r.Put(w.ctx, id, v, func(ctx context.Context) (version record.Version, err error) {
				var text string
				switch n := any(v).(type) {
				case oldThing:
					err = w.db.QueryRow(ctx, `INSERT INTO things (id, a) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET a = $2 RETURNING `+r.Version, n.ID, n.A).Scan(&text)
				case newThing:
					err = w.db.QueryRow(ctx, `INSERT INTO things (id, a, stock) VALUES ($1, $2, $3) ON CONFLICT (id) DO UPDATE SET a = $2, stock = $3 RETURNING `+r.Version, n.ID, n.A, n.Stock).Scan(&text)
				}
				if err != nil {
					return version, err
				}
				return record.ParseVersion(text)
			})
		},
		get: func(id int64) (string, error) {
			v, found, err := r.Get(w.ctx, id)
			if err != nil || !found {
				return none, err
			}
			return textOf(v), nil
		},
		leave: func() {
			if !left {
				left = true
				stop()
				if err := <-over; err != nil {
					w.t.Errorf("leave: %v", err)
				}
			}
		},
	}
	w.t.Cleanup(i.leave)
	return i, nil
}

// works requires that an instance writes and reads.
func (w *table) works(i *instance, id int64, a string) {
	w.t.Helper()
	w.check(i.put(id, a))
	if got, err := i.get(id); err != nil || got != a {
		w.t.Errorf("read %q, %v, want %q", got, err, a)
	}
}

const addStock = `ALTER TABLE things ADD COLUMN stock bigint DEFAULT 5`

// TestDDLAfterTheEvidence: a column is added after a clean, full reconcile. What moves is what was
// applied, on evidence about just that; and that the column does not move is said.
func TestDDLAfterTheEvidence(t *testing.T) {
	t.Parallel()
	for name, target := range map[string]string{"redis": toRedis, "postgres": toPostgres} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newTable(t, target)
			w.upto(phases.DualRead)
			w.clean()
			w.sql(w.legacy, addStock)
			w.check(w.advance())
			if st := w.status(); st.Route.Phase != phases.Cutover || len(st.Columns) != 1 || st.Columns[0].Detail != `column "stock" was added, and is not moved` || !st.Dirty.IsZero() {
				t.Errorf("at %s: %+v, unclean %s", st.Route, st.Columns, st.Dirty)
			}
			w.works(w.mustOld(), 1, "restarted")
			w.works(w.mustNew(), 2, "newer")
			w.clean()
			if got := w.inTarget(2); got != "id=2 a=newer" {
				t.Errorf("moved: %s", got)
			}
			w.refuses(app.ColumnFlags{}, "add-field stock")
			w.file = "exclude: [stock]\n"
			w.mustApply(app.ColumnFlags{})
			if st := w.status(); len(st.Columns) != 0 {
				t.Errorf("excluded: %+v", st.Columns)
			}
		})
	}
}

// TestAColumnIsAddedInEachPhase, with an instance of the old and one of the new code in all of it.
func TestAColumnIsAddedInEachPhase(t *testing.T) {
	t.Parallel()
	addsColumn(t, phases.Legacy, phases.ShadowWrite, phases.DualRead, phases.Retain)
}

// TestTortureColumns is TestAColumnIsAddedInEachPhase in the phases whose way is retain's too.
func TestTortureColumns(t *testing.T) {
	t.Parallel()
	onlyLong(t)
	addsColumn(t, phases.Cutover, phases.Grace)
}

// onlyLong skips what only make torture runs.
func onlyLong(t *testing.T) {
	t.Helper()
	if os.Getenv("MIGRATOR_TORTURE") == "" {
		t.Skip("MIGRATOR_TORTURE is not set")
	}
}

func addsColumn(t *testing.T, in ...phases.Phase) {
	t.Helper()
	add := app.ColumnFlags{Add: []string{"stock"}}
	for _, phase := range in {
		t.Run(string(phase), func(t *testing.T) {
			t.Parallel()
			w := newTable(t, toRedis)
			w.upto(phase)
			before := w.status()
			old := w.mustOld()
			w.sql(w.legacy, addStock)
			fresh := w.mustNew() // runs before it is applied: the column is optional
			w.works(old, 1, "old")
			w.works(fresh, 2, "new")
			switch phase {
			case phases.Legacy:
				w.mustApply(app.ColumnFlags{})
				// Both run on in legacy; the step out of it waits for programs that move the column.
				w.works(old, 1, "old again")
				w.closed("fleet-described")
				if other := w.snapshot().Fleet.Other; len(other) != 2 {
					t.Errorf("named: %v", other)
				}
				old.leave()
				fresh.leave()
				fresh = w.mustNew()
				w.upto(phases.DualRead)
			case phases.ShadowWrite, phases.DualRead:
				w.refuses(app.ColumnFlags{}, "add-field stock")
				w.refuses(app.ColumnFlags{Add: []string{"stcok"}}, `no such column`)
				w.mustApply(add)
				st := w.status()
				if st.Route.Epoch <= before.Route.Epoch || st.Route.Phase != phase || st.ConfigHash == before.ConfigHash || st.Moves == before.Moves {
					t.Errorf("%+v, before %+v", st, before)
				}
				w.works(old, 1, "old again")
				w.works(fresh, 2, "new again")
				// The program of before may start, and counts; what was copied does not.
				third := w.mustOld()
				w.works(third, 3, "third")
				if e := w.snapshot(); len(e.Fleet.Other) != 3 || e.Fleet.Behind != 3 || e.Fleet.Settled() {
					t.Errorf("%+v", e.Fleet)
				}
				if err := w.backfill(); err == nil || !strings.Contains(err.Error(), "may still move the columns of before") {
					t.Errorf("a backfill beside the old code: %v", err)
				}
				fresh.leave()
				fresh = w.mustNew()
				w.works(fresh, 2, "moves it")
				if got := w.inTarget(2); got != "id=2 a=moves it stock=7" {
					t.Errorf("%s", got)
				}
				if w.status().Route.Phase == phases.DualRead {
					w.closed("backfill-done")
				}
				w.closed("fleet-settled")
				old.leave()
				third.leave()
				w.settles()
				w.check(w.backfill())
				if _, err := w.old(); !errors.Is(err, dual.ErrOtherMoves) && (err == nil || !strings.Contains(err.Error(), `does not know field "stock"`)) {
					t.Errorf("the old code joined after the barrier: %v", err)
				}
				w.clean()
				w.upto(phases.Cutover)
			default:
				w.refuses(app.ColumnFlags{}, "rollback to dual-read")
				w.refuses(add, "rollback to dual-read")
				if phase != phases.Retain {
					w.clean()
					w.upto(phases.Retain)
				}
				w.works(old, 1, "in retain")
				w.works(fresh, 2, "in retain")
				w.check(fresh.put(11, "born in retain"))
				// [columns-applied]: the return leaves the column of legacy that is not moved as it is.
				w.check(w.rollback(phases.Grace))
				for id, want := range map[int64]string{1: "5", 2: "7", 11: "5"} {
					if phase == phases.Retain && id == 2 {
						want = "5" // legacy took no write of it
					}
					if got := w.inLegacy(id, "stock"); got != want {
						t.Errorf("stock of %d is %s, want %s", id, got, want)
					}
				}
				if got := w.inLegacy(2, "a"); got != "in retain" {
					t.Errorf("a is %s", got)
				}
				return
			}
			w.works(fresh, 4, "after")
			w.clean()
			for id, want := range map[int64]string{4: "id=4 a=after stock=7", 5: "id=5 a=thing 5 stock=5"} {
				if got := w.inTarget(id); got != want {
					t.Errorf("in the target: %s, want %s", got, want)
				}
			}
		})
	}
}

func (w *table) rollback(to phases.Phase) error {
	m, err := app.OpenMoves(w.ctx, w.state, "things", w.m(), "things.yaml", false, nil)
	if err != nil {
		return err
	}
	defer m.Close()
	m.Poll = 5 * time.Millisecond
	_, err = m.Rollback(w.ctx, control.Rollback{To: to, Reason: "test"})
	return err
}

// explained is an error with its hint.
func explained(err error) string {
	if err == nil {
		return ""
	}
	h, _ := hint.Of(err)
	return err.Error() + "; try: " + h.String()
}

// TestAFieldIsDropped: before its column is, so that no instance names it then.
func TestAFieldIsDropped(t *testing.T) {
	t.Parallel()
	for _, phase := range []phases.Phase{phases.ShadowWrite, phases.DualRead} {
		t.Run(string(phase), func(t *testing.T) {
			t.Parallel()
			w := newTable(t, toRedis)
			w.sql(w.legacy, addStock)
			w.mustApply(app.ColumnFlags{})
			w.upto(phase)
			fresh := w.mustNew() // stock is optional: it runs with and without it
			w.works(fresh, 1, "moves it")
			drop := app.ColumnFlags{Drop: []string{"stock"}}
			w.refuses(drop, "exclude")
			w.file = "exclude: [stock]\n"
			w.refuses(app.ColumnFlags{}, "drop-field stock")
			w.mustApply(drop)
			w.works(fresh, 2, "moves it still")
			w.closed("fleet-settled")
			old := w.mustOld() // code that does not know it any more
			w.works(old, 3, "without")
			fresh.leave()
			w.settles()
			w.check(w.backfill())
			w.sql(w.legacy, `ALTER TABLE things DROP COLUMN stock`)
			w.file = ""
			w.mustApply(app.ColumnFlags{})
			w.works(old, 1, "without")
			w.clean()
			w.upto(phases.Cutover)
			if st := w.status(); len(st.Columns) != 0 {
				t.Errorf("%+v", st.Columns)
			}
			if got := w.inTarget(2); got != "id=2 a=moves it still" {
				t.Errorf("%s", got)
			}
		})
	}
}

// TestColumnsThatChangeMakeUnclean: each change of a moved column closes the gates at once, is named,
// and makes the evidence void, also where it is undone.
func TestColumnsThatChangeMakeUnclean(t *testing.T) {
	t.Parallel()
	changesColumns(t, false)
}

// TestTortureColumnsThatChange is TestColumnsThatChangeMakeUnclean with the other changes.
func TestTortureColumnsThatChange(t *testing.T) {
	t.Parallel()
	onlyLong(t)
	changesColumns(t, true)
}

func changesColumns(t *testing.T, long bool) {
	t.Helper()
	const key = `ALTER TABLE things DROP CONSTRAINT things_pkey, ALTER COLUMN id DROP NOT NULL`
	for name, c := range map[string]struct {
		target         string
		of             bool // the target's
		ddl, undo      string
		change, detail string
		long           bool
	}{
		"dropped":          {toRedis, false, `ALTER TABLE things DROP COLUMN a`, ``, "dropped", "was dropped, or renamed", false},
		"renamed":          {toRedis, false, `ALTER TABLE things RENAME COLUMN a TO b`, `ALTER TABLE things RENAME COLUMN b TO a`, "renamed", `was renamed to "b"`, false},
		"replaced":         {toRedis, false, `ALTER TABLE things DROP COLUMN a, ADD COLUMN b int; ALTER TABLE things RENAME COLUMN b TO a; ALTER TABLE things ALTER a TYPE text`, ``, "replaced", "added again", true},
		"retyped":          {toRedis, false, `ALTER TABLE things ALTER a TYPE varchar(20)`, `ALTER TABLE things ALTER a TYPE text`, "retyped", "now of type character varying(20), and was text", false},
		"collated":         {toRedis, false, `ALTER TABLE things ALTER a TYPE text COLLATE "C"`, `ALTER TABLE things ALTER a TYPE text COLLATE "default"`, "collation", `now has the collation "C"`, true},
		"without its key":  {toRedis, false, key, `ALTER TABLE things ADD PRIMARY KEY (id)`, "key", "may be null", true},
		"target's dropped": {toPostgres, true, `ALTER TABLE things DROP COLUMN a`, ``, "dropped", "was dropped, or renamed", false},
		"target's retyped": {toPostgres, true, `ALTER TABLE things ALTER a TYPE varchar(20)`, `ALTER TABLE things ALTER a TYPE text`, "retyped", "now of type", true},
		"target's key":     {toPostgres, true, key, `ALTER TABLE things ADD PRIMARY KEY (id)`, "key", "may be null", false},
	} {
		if c.long != long {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newTable(t, c.target)
			w.upto(phases.DualRead)
			w.clean()
			at := w.legacy
			if c.of {
				at = w.target
			}
			w.sql(at, c.ddl)
			w.closed("columns-applied")
			st := w.status()
			if len(st.Columns) != 1 || st.Columns[0].Change != c.change || !strings.Contains(st.Columns[0].Detail, c.detail) || !st.Columns[0].Broken {
				t.Errorf("%+v", st.Columns)
			}
			if st.Dirty.IsZero() || !strings.Contains(st.Unclean, c.detail) {
				t.Errorf("unclean from %s: %q", st.Dirty, st.Unclean)
			}
			if c.undo == "" {
				return
			}
			w.sql(at, c.undo)
			w.closed("no-lost-queue")
			if st := w.status(); len(st.Columns) != 0 {
				t.Errorf("undone: %+v", st.Columns)
			}
			w.lands()
			w.clean()
			w.upto(phases.Cutover)
		})
	}
}

// TestTypesThatChangeInside: DDL of a type gives values that are stored other texts, and touches neither the
// table nor its rows. A label that is added changes none.
func TestTypesThatChangeInside(t *testing.T) {
	t.Parallel()
	const types = `CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE DOMAIN moods AS mood[]; CREATE TYPE place AS (street text, felt moods);
		ALTER TABLE things ADD m mood DEFAULT 'ok', ADD p place DEFAULT ROW('here', '{sad}')`
	for name, c := range map[string]struct {
		target      string
		of          bool // the target's
		ddl, detail string
		columns     []string
	}{
		"a label":            {toRedis, false, `ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'`, "a label of the enum public.mood of column", []string{"m", "p"}},
		"an attribute":       {toRedis, false, `ALTER TYPE place ADD ATTRIBUTE nr int`, "the type public.place of column", []string{"p"}},
		"the target's label": {toPostgres, true, `ALTER TYPE mood RENAME VALUE 'ok' TO 'fine'`, "a label of the enum public.mood of column", []string{"m", "p"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newTable(t, c.target)
			w.sql(w.legacy, types)
			at := w.legacy
			if c.target == toPostgres {
				w.sql(w.target, types)
			}
			if c.of {
				at = w.target
			}
			w.mustApply(app.ColumnFlags{})
			w.upto(phases.DualRead)
			w.clean()
			w.sql(at, `ALTER TYPE mood ADD VALUE 'happy' BEFORE 'ok'`)
			w.mustApply(app.ColumnFlags{}) // changes nothing
			w.clean()
			if st := w.status(); len(st.Columns) != 0 || !st.Dirty.IsZero() {
				t.Errorf("a label was added: %+v, %q", st.Columns, st.Unclean)
			}
			w.sql(at, c.ddl)
			w.closed("columns-applied")
			st := w.status()
			var columns []string
			for _, change := range st.Columns {
				columns = append(columns, change.Column)
				if change.Change != "retyped" || !change.Broken || !strings.Contains(change.Detail, c.detail) {
					t.Errorf("%+v", change)
				}
			}
			if !slices.Equal(columns, c.columns) || st.Dirty.IsZero() {
				t.Errorf("%+v, unclean from %s", st.Columns, st.Dirty)
			}
			if c.of { // legacy follows, or its values fit the target's type no more
				w.sql(w.legacy, c.ddl)
			}
			w.refuses(app.ColumnFlags{}, "change-field "+c.columns[0]+" "+c.columns[0])
			w.mustApply(app.ColumnFlags{Drop: c.columns, Add: c.columns})
			w.closed("backfill-done")
			w.check(w.backfill())
			w.clean()
		})
	}
}

// TestARetypedColumnIsApplied: what was changed in place is taken as it is now, in an epoch of its own.
func TestARetypedColumnIsApplied(t *testing.T) {
	t.Parallel()
	w := newTable(t, toRedis)
	w.upto(phases.DualRead)
	old := w.mustOld()
	w.sql(w.legacy, `ALTER TABLE things ALTER a TYPE varchar(20)`)
	w.refuses(app.ColumnFlags{}, "change-field a a")
	w.mustApply(app.ColumnFlags{Drop: []string{"a"}, Add: []string{"a"}})
	w.works(old, 1, "beside")
	old.leave()
	again := w.mustOld() // the same code takes the new type
	w.works(again, 2, "again")
	w.settles()
	w.closed("backfill-done")
	w.check(w.backfill())
	w.clean()
	w.upto(phases.Cutover)
}

// TestJoinIsDescribed: an instance that would write other entries than the others does not join, or
// is named while it can do no harm.
func TestJoinIsDescribed(t *testing.T) {
	t.Parallel()
	w := newTable(t, toRedis)
	others := map[string]func(*migration.Config){
		"another key template": func(m *migration.Config) {
			m.Target.Part = &redis.TargetConfig{KeyTemplate: "other:{id}", Format: "hash", VersionField: "_v"}
		},
		"another format": func(m *migration.Config) {
			m.Target.Part = &redis.TargetConfig{KeyTemplate: "thing:{id}", Format: "json", VersionField: "_v"}
		},
		"another table":       func(m *migration.Config) { m.Legacy.Part = &postgres.LegacyConfig{Table: "others"} },
		"other fields":        func(m *migration.Config) { m.Schema.Fields = m.Schema.Fields[:1] },
		"another target name": func(m *migration.Config) { m.Schema.Fields[1].Target = "b" },
		"none at all":         func(m *migration.Config) { m.Schema = nil },
	}
	join := func(change func(*migration.Config)) (dual.Grant, func(), error) {
		fleet, err := pgfleet.Open(w.ctx, w.stateURL, "things", pgfleet.Options{})
		w.check(err)
		t.Cleanup(fleet.Close)
		m, err := kit.Described(w.ctx, w.m(), fleet)
		w.check(err)
		change(m)
		g, err := fleet.Join(w.ctx, dual.Identity{Instance: "other", Moves: m.Moves()})
		return g, func() { w.check(fleet.Leave(w.ctx, g.Lease)) }, err
	}
	for name, change := range others {
		g, leave, err := join(change)
		w.check(err)
		if other := w.snapshot().Fleet.Other; !g.OtherMoves || g.ConfigHash != "" || !slices.Equal(other, []string{"other"}) {
			t.Errorf("%s in legacy: %+v, named %v", name, g, other)
		}
		w.closed("fleet-described")
		// Whatever a caller decides, the state refuses the step.
		if _, err := w.state.Transition(w.ctx, "things", func(e phases.Snapshot) (phases.Move, error) {
			return phases.Move{From: e.Status.Route, To: phases.Route{Phase: phases.ShadowWrite}, Cause: phases.CauseAdvance}, nil
		}); err == nil {
			t.Fatalf("%s: it goes on to shadow-write", name)
		}
		leave()
	}
	// A program of a release that does not say what it moves.
	w.sql(w.stateURL, `INSERT INTO migrator.leases (id, migration, instance, about, acknowledged_epoch, joined_at, renewed_at, expires_at)
		SELECT 'ancient', name, 'ancient', '', epoch, now(), now(), now() + interval '5 minutes' FROM migrator.migrations`)
	w.closed("fleet-described")
	w.sql(w.stateURL, `UPDATE migrator.leases SET ended = 'left', ended_at = now() WHERE id = 'ancient'`)
	for _, phase := range []phases.Phase{phases.ShadowWrite, phases.DualRead, phases.Cutover, phases.Grace, phases.Retain, phases.Complete} {
		w.upto(phase)
		for name, change := range others {
			if _, _, err := join(change); !errors.Is(err, dual.ErrOtherMoves) || !strings.Contains(err.Error(), "things") || explained(err) == "" {
				t.Errorf("%s at %s: %v", name, phase, err)
			}
		}
		w.must(w.old()).leave()
	}
}

// TestARefusedJoinSaysWhatDiffers, and an apply during the run is noticed by its instances.
func TestARefusedJoinSaysWhatDiffers(t *testing.T) {
	t.Parallel()
	w := newTable(t, toRedis)
	old := w.mustOld()
	w.toTarget = strings.Replace(toRedis, "thing:", "other:", 1)
	w.mustApply(app.ColumnFlags{})
	w.works(old, 1, "in legacy")
	w.closed("fleet-described")
	old.leave()
	w.upto(phases.ShadowWrite)
	w.toTarget = toRedis
	if _, err := w.old(); !errors.Is(err, dual.ErrOtherMoves) || !strings.Contains(err.Error(), `target.key is "thing:{id}" here, and "other:{id}" as applied`) {
		t.Errorf("%v", err)
	}
}

// TestAnApplyNotesWhatItAccepts: ALTER TABLE has given all records other values since the last look, and nothing but an
// apply looks.
func TestAnApplyNotesWhatItAccepts(t *testing.T) {
	t.Parallel()
	w := newTable(t, toRedis)
	w.upto(phases.ShadowWrite)
	w.sql(w.legacy, `ALTER TABLE things ALTER a TYPE text USING upper(a)`)
	w.mustApply(app.ColumnFlags{})
	st, err := w.state.Status(w.ctx, "things")
	w.check(err)
	if !strings.Contains(st.Unclean, `public.things was rewritten by ALTER TABLE, and may have other values ("a")`) || st.LegacyChanged != "" {
		t.Errorf("unclean: %q, changed: %q", st.Unclean, st.LegacyChanged)
	}
	w.mustApply(app.ColumnFlags{})
	if again, err := w.state.Status(w.ctx, "things"); err != nil || again.Unclean != st.Unclean || again.LastReason != st.LastReason {
		t.Errorf("a second apply: %+v, %v", again, err)
	}
}
