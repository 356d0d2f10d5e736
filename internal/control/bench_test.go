package control_test

import (
	"context"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

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

func TestMain(m *testing.M) { testenv.Main(m) }

// bench is one migration on servers of its own database, ready to be moved.
type bench struct {
	t         testing.TB
	ctx       context.Context
	m         *migration.Config
	state     *state.Store
	legacy    store.Legacy
	target    store.Target
	legacyURL string
	stateURL  string
}

const description = `
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
writing: {not_after: 1s, deadline: 500ms}
`

func newBench(t testing.TB) *bench {
	t.Helper()
	return newBenchOf(t, `CREATE TABLE items (id bigint PRIMARY KEY, name text)`)
}

// newBenchOf is a bench whose table is made by the given statements.
func newBenchOf(t testing.TB, table string) *bench {
	t.Helper()
	return newBenchIn(t, table, statetest.URL(t), state.Open)
}

// newBenchIn is newBenchOf, in a state database that open opens.
func newBenchIn(t testing.TB, table, stateURL string, open func(context.Context, string) (*state.Store, error)) *bench {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	t.Cleanup(cancel)
	b := &bench{t: t, ctx: ctx, legacyURL: testenv.PostgresURL(t), stateURL: stateURL}
	b.check(b.sql(table + `; INSERT INTO items SELECT i, 'item ' || i FROM generate_series(1, 20) i`))
	var err error
	b.m, err = openstore.Parse("test.yaml", fmt.Appendf(nil, description, b.legacyURL, testenv.RedisURL(t)), nil)
	b.check(err)
	b.state, err = open(ctx, b.stateURL)
	b.check(err)
	t.Cleanup(b.state.Close)
	b.legacy, err = b.m.OpenLegacy(ctx)
	b.check(err)
	t.Cleanup(b.legacy.Close)
	b.check(b.legacy.Install(ctx))
	b.target, err = b.m.OpenTarget(ctx, b.legacy.Schema())
	b.check(err)
	t.Cleanup(func() { _ = b.target.Close() })
	config, err := b.m.Public()
	b.check(err)
	_, _, err = b.state.Apply(ctx, state.Applied{
		Migration: "items", Environment: "test", Config: config, ConfigHash: b.m.Hash(), Schema: []byte(`{}`), Reversible: true,
	})
	b.check(err)
	return b
}

func (b *bench) check(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) sql(query string) error {
	conn, err := pgx.Connect(b.ctx, b.legacyURL)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(b.ctx) }()
	_, err = conn.Exec(b.ctx, query)
	return err
}

// walk takes the migration to a phase by bare moves: gates are tested elsewhere.
func (b *bench) walk(to phases.Phase) {
	b.t.Helper()
	for range 20 {
		st, err := b.state.Status(b.ctx, "items")
		b.check(err)
		if st.Route.Phase == to {
			return
		}
		next, err := b.m.Phases.Next(st.Route)
		b.check(err)
		_, err = b.state.Transition(b.ctx, "items", func(phases.Snapshot) (phases.Move, error) {
			return phases.Move{From: st.Route, To: next, Cause: phases.CauseAdvance}, nil
		})
		b.check(err)
	}
	b.t.Fatalf("did not get to %s", to)
}

func (b *bench) controller() *control.Controller {
	return &control.Controller{
		State: b.state, Migration: "items", Settings: b.m.Settings(), Legacy: b.legacy, Target: b.target,
		Poll: 5 * time.Millisecond, FenceBudget: time.Minute, NotAfter: time.Second,
	}
}

// fenceGates opens the gates that this test is not about.
func fenceGates() control.Advance {
	return control.Advance{Reason: "test", Overrides: map[string]string{"reconcile-clean": "test"}}
}

// interlocked makes the interlocks of grace → retain pass: a backfill is done.
func (b *bench) interlocked() {
	b.t.Helper()
	keys := make([]record.Key, 20)
	for n := range keys {
		keys[n] = record.Key(strconv.Itoa(n + 1))
	}
	rows, err := b.legacy.LookupLocked(b.ctx, keys)
	b.check(err)
	writes := make([]store.Write, len(rows))
	for n, r := range rows {
		writes[n] = store.Write{Key: r.Key, Record: r.Record, Version: r.Version}
	}
	_, err = b.target.Apply(b.ctx, writes)
	b.check(err)
	backfills := backfills.New(b.state.Pool(), "items")
	p, release, err := backfills.Begin(b.ctx)
	b.check(err)
	defer release()
	p.Finished = time.Now()
	b.check(backfills.Save(b.ctx, p))
}

// consistent checks that legacy refuses writes exactly where the phase says so,
// and that nothing is left half done.
func (b *bench) consistent(want phases.Phase) {
	b.t.Helper()
	st, err := b.state.Status(b.ctx, "items")
	b.check(err)
	attempt, _, err := b.legacy.FenceState(b.ctx)
	b.check(err)
	writeErr := b.sql("UPDATE items SET name = name WHERE id = 1")
	if st.Route.Phase != want {
		b.t.Errorf("phase %s, want %s", st.Route.Phase, want)
	}
	if st.Attempt != attempt {
		b.t.Errorf("the state notes attempt %q, legacy's fence is of %q", st.Attempt, attempt)
	}
	if refused := writeErr != nil; refused != (want == phases.Retain) {
		b.t.Errorf("in %s a legacy write returned: %v", want, writeErr)
	}
}

// holdTable keeps a transaction open that has written the table.
func (b *bench) holdTable(application string) (release func()) {
	b.t.Helper()
	config, err := pgx.ParseConfig(b.legacyURL)
	b.check(err)
	config.RuntimeParams["application_name"] = application
	conn, err := pgx.ConnectConfig(b.ctx, config)
	b.check(err)
	_, err = conn.Exec(b.ctx, "BEGIN; UPDATE items SET name = name WHERE id = 1")
	b.check(err)
	return func() { _ = conn.Close(b.ctx) }
}

func (b *bench) snapshot() phases.Snapshot {
	b.t.Helper()
	e, err := b.state.Snapshot(b.ctx, "items")
	b.check(err)
	return e
}
