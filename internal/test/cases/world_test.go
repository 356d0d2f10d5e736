package cases

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/dual/pgfleet"
	"github.com/stranglerfig/migrator/internal/control"
	"github.com/stranglerfig/migrator/internal/openstore"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/state/backfills"
	"github.com/stranglerfig/migrator/internal/test/statetest"
	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// world is one migration of the table items, with the three servers that it needs.
type world struct {
	t         *testing.T
	ctx       context.Context
	m         *migration.Config
	state     *state.Store
	stateURL  string
	legacy    store.Legacy
	target    store.Target
	legacyURL string
	db        *pgxpool.Pool // to legacy, for applications and for checks
}

// options configure a world. Zero: new databases on the shared servers, 20 records, a
// not-after of 2 s.
type options struct {
	legacyURL, stateURL, targetURL string
	notAfter                       time.Duration
	rows                           int
}

const migrationFile = `
name: items
legacy: {store: postgres, url: "%s", table: items}
target: {store: redis, url: "%s", key: "item:{id}"}
phases:
  shadow_write: {for: 0s}
  dual_read: {steps: [100], over: 0s}
  cutover: {steps: [50, 100], over: 0s}
  grace: {for: 0s}
  retain: {for: 0s}
  approval: {for: []}
gates: {off: a test without traffic}
writing: {not_after: %s, deadline: 1s}
`

func newWorld(t *testing.T, o options) *world {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	t.Cleanup(cancel)
	if o.legacyURL == "" {
		o.legacyURL = testenv.PostgresURL(t)
	}
	if o.stateURL == "" {
		o.stateURL = statetest.URL(t)
	}
	if o.targetURL == "" {
		o.targetURL = testenv.RedisURL(t)
	}
	if o.notAfter == 0 {
		o.notAfter = 2 * time.Second
	}
	if o.rows == 0 {
		o.rows = 20
	}
	w := &world{t: t, ctx: ctx, legacyURL: o.legacyURL, stateURL: o.stateURL}
	w.run(o.legacyURL, fmt.Sprintf(`CREATE TABLE items (id bigint PRIMARY KEY, name text);
		INSERT INTO items SELECT i, 'item ' || i FROM generate_series(1, %d) i`, o.rows))
	var err error
	w.m, err = openstore.Parse("test.yaml", fmt.Appendf(nil, migrationFile, o.legacyURL, o.targetURL, o.notAfter), nil)
	w.check(err)
	_, _, err = state.Migrate(ctx, o.stateURL)
	w.check(err)
	w.state, err = state.Open(ctx, o.stateURL)
	w.check(err)
	t.Cleanup(w.state.Close)
	w.openStores()
	config, err := w.m.Public()
	w.check(err)
	w.m.Schema = w.legacy.Schema()
	schema, err := json.Marshal(w.m.Schema)
	w.check(err)
	_, _, err = w.state.Apply(ctx, state.Applied{
		Migration: "items", Environment: "test", Config: config, ConfigHash: w.m.Hash(), Moves: w.m.Moves(), Schema: schema, Reversible: true,
	})
	w.check(err)
	w.db, err = pgxpool.New(ctx, o.legacyURL)
	w.check(err)
	t.Cleanup(w.db.Close)
	return w
}

// fileOf is the migration file with another name and table.
func (w *world) fileOf(name, table string) *migration.Config {
	w.t.Helper()
	text := strings.NewReplacer("name: items", "name: "+name, "table: items", "table: "+table).Replace(migrationFile)
	m, err := openstore.Parse("other.yaml", fmt.Appendf(nil, text, w.legacyURL, w.m.Target.URL, time.Second), nil)
	w.check(err)
	return m
}

func (w *world) openStores() {
	w.t.Helper()
	var err error
	w.legacy, err = w.m.OpenLegacy(w.ctx)
	w.check(err)
	w.t.Cleanup(w.legacy.Close)
	w.check(w.legacy.Install(w.ctx))
	w.target, err = w.m.OpenTarget(w.ctx, w.legacy.Schema())
	w.check(err)
	w.t.Cleanup(func() { _ = w.target.Close() })
}

func (w *world) check(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// run executes SQL on its own connection.
func (w *world) run(url, sql string) {
	w.t.Helper()
	conn, err := pgx.Connect(w.ctx, url)
	w.check(err)
	defer func() { _ = conn.Close(w.ctx) }()
	_, err = conn.Exec(w.ctx, sql)
	w.check(err)
}

func (w *world) status() phases.Status {
	w.t.Helper()
	st, err := w.state.Status(w.ctx, "items")
	w.check(err)
	return st
}

func (w *world) controller() *control.Controller {
	return &control.Controller{
		State: w.state, Migration: "items", Settings: w.m.Settings(), Legacy: w.legacy, Target: w.target,
		Poll: 5 * time.Millisecond, FenceBudget: 3 * time.Second,
	}
}

// unreconciled is an advance that overrides the one gate that these tests can't open.
func unreconciled() control.Advance {
	return control.Advance{Reason: "test", Overrides: map[string]string{"reconcile-clean": "test"}}
}

// walk takes the migration to a phase by moves without gates, each settled by the running
// instances: gates are tested elsewhere.
func (w *world) walk(to phases.Phase) {
	w.t.Helper()
	for range 20 {
		at := w.status().Route
		if at.Phase == to {
			return
		}
		next, err := w.m.Phases.Next(at)
		w.check(err)
		_, err = w.state.Transition(w.ctx, "items", func(phases.Snapshot) (phases.Move, error) {
			return phases.Move{From: at, To: next, Cause: phases.CauseAdvance}, nil
		})
		w.check(err)
		w.check(w.controller().AwaitSettled(w.ctx, time.Minute))
	}
	w.t.Fatalf("did not reach %s", to)
}

// upto takes the migration from legacy to a phase, with all records copied.
func (w *world) upto(phase phases.Phase) {
	w.t.Helper()
	w.walk(phases.ShadowWrite)
	if phase == phases.ShadowWrite {
		return
	}
	w.walk(phases.DualRead)
	w.copyAll()
	if phase != phases.Retain {
		w.walk(phase)
		return
	}
	w.walk(phases.Grace)
	step, err := w.controller().Advance(w.ctx, unreconciled())
	w.check(err)
	if step.To.Phase != phases.Retain {
		w.t.Fatalf("advanced to %s, want retain", step.To)
	}
}

// copyAll copies each row at the version of its locked row, and records a finished
// backfill.
func (w *world) copyAll() {
	w.t.Helper()
	rows, err := w.db.Query(w.ctx, "SELECT id::text FROM items ORDER BY id")
	w.check(err)
	ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	w.check(err)
	keys := make([]record.Key, len(ids))
	for i, id := range ids {
		keys[i] = record.MakeKey(id)
	}
	locked, err := w.legacy.LookupLocked(w.ctx, keys)
	w.check(err)
	writes := make([]store.Write, len(locked))
	for i, r := range locked {
		writes[i] = store.Write{Key: r.Key, Record: r.Record, Version: r.Version}
	}
	results, err := w.target.Apply(w.ctx, writes)
	w.check(err)
	for _, r := range results {
		w.check(r.Err)
	}
	backfill := backfills.New(w.state.Pool(), "items")
	p, release, err := backfill.Begin(w.ctx)
	w.check(err)
	defer release()
	p.Finished = time.Now()
	w.check(backfill.Save(w.ctx, p))
}

// joined is an instance that renews by hand.
func (w *world) joined(name string, lease time.Duration) (*pgfleet.Fleet, dual.Grant) {
	w.t.Helper()
	f := pgfleet.New(w.state.Pool(), "items", pgfleet.Options{Lease: lease, Renew: lease / 3})
	g, err := f.Join(w.ctx, dual.Identity{Instance: name, Moves: w.m.Moves()})
	w.check(err)
	return f, g
}

func keys(ids ...int64) (list []record.Key) {
	for _, id := range ids {
		list = append(list, key(id))
	}
	return list
}

func key(id int64) record.Key { return record.MakeKey(strconv.FormatInt(id, 10)) }

// none is the result of the readers below for a record that does not exist.
const none = "(none)"

func (w *world) inLegacy(id int64) string {
	w.t.Helper()
	var name string
	err := w.db.QueryRow(w.ctx, "SELECT name FROM items WHERE id = $1", id).Scan(&name)
	if errors.Is(err, pgx.ErrNoRows) {
		return none
	}
	w.check(err)
	return name
}

func (w *world) inTarget(id int64) string {
	w.t.Helper()
	entries, err := w.target.Get(w.ctx, []record.Key{key(id)})
	w.check(err)
	if entries[0].Presence != store.Live {
		return none
	}
	return entries[0].Record[1].Text
}
