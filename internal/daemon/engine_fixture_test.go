package daemon_test

import (
	"bytes"
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/dual/pgfleet"
	"github.com/stranglerfig/migrator/dual/telemetry"
	"github.com/stranglerfig/migrator/internal/daemon"
	"github.com/stranglerfig/migrator/internal/judge"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/phases"
)

const items = "items"

// fixture is a migration in mid-cutover, in a state database of its own, with one
// instance that the test drives.
type fixture struct {
	t        *testing.T
	state    *state.Store
	settings phases.Settings
	fleet    *pgfleet.Fleet
	grant    dual.Grant
	windows  int64
}

// evaluateEvery is the interval of the engine under test.
const evaluateEvery = phases.Duration(20 * time.Millisecond)

func newFixture(t *testing.T, dbURL string) *fixture {
	t.Helper()
	b := &fixture{t: t}
	_, _, err := state.Migrate(t.Context(), dbURL)
	b.check(err)
	b.state, err = state.Open(t.Context(), dbURL)
	b.check(err)
	t.Cleanup(b.state.Close)
	_, _, err = b.state.Apply(t.Context(), state.Applied{
		Migration: items, Environment: "test", ConfigHash: "h1", Reversible: true,
		Config: []byte(`{"name":"items","fleet":{"lease":"10m","renew":"1m"}}`), Schema: []byte(`{"fields":[],"key":[]}`),
	})
	b.check(err)
	b.settings.DualRead.Steps = []phases.Percent{phases.All / 2, phases.All}
	b.settings.Cutover.Steps = []phases.Percent{phases.All}
	b.settings.Gates = phases.GateSettings{Off: "a test of triggers"}
	b.settings.Triggers = phases.TriggerSettings{Errors: phases.FailureTrigger{Limit: 5000}}
	for _, w := range []*phases.Watch{
		&b.settings.Triggers.Mismatches.Watch, &b.settings.Triggers.Errors.Watch, &b.settings.Triggers.Latency.Watch, &b.settings.Triggers.LostWrites.Watch,
	} {
		if w.Interval, w.Off = evaluateEvery, "not under test"; w == &b.settings.Triggers.Errors.Watch {
			w.Off = ""
		}
	}
	b.fleet = pgfleet.New(b.state.Pool(), items, pgfleet.Options{})
	b.grant, err = b.fleet.Join(t.Context(), dual.Identity{Instance: "web"})
	b.check(err)
	for _, to := range []phases.Route{{Phase: phases.ShadowWrite}, {Phase: phases.DualRead, Percent: phases.All}} {
		b.advance(to)
	}
	b.cutover()
	return b
}

func (b *fixture) check(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

// advance is an operator's step, which the instance acknowledges.
func (b *fixture) advance(to phases.Route) {
	b.t.Helper()
	_, err := b.state.Transition(b.t.Context(), items, func(e phases.Snapshot) (phases.Move, error) {
		return phases.Move{From: e.Status.Route, To: to, Cause: phases.CauseAdvance}, nil
	})
	b.check(err)
	b.acknowledge()
}

// acknowledge has the instance acknowledge the present route.
func (b *fixture) acknowledge() {
	b.t.Helper()
	for range 2 { // the first renewal receives the route, the second acknowledges it
		var err error
		b.grant, err = b.fleet.Renew(b.t.Context(), b.grant.Lease, b.grant.Route.Epoch)
		b.check(err)
	}
}

func (b *fixture) cutover() { b.advance(phases.Route{Phase: phases.Cutover, Percent: phases.All}) }

// reportReads reports a window of the instance's reads.
func (b *fixture) reportReads(ok, failed uint64) {
	b.t.Helper()
	b.windows++
	series := telemetry.Series{Operation: telemetry.Read, Store: telemetry.Target, Role: telemetry.Serving}
	good, bad := series, series
	good.Outcome, bad.Outcome = telemetry.OK, telemetry.Failed
	b.check(b.fleet.Observe(b.t.Context(), b.grant.Lease, []telemetry.Window{{
		Incarnation: "i", Instance: "web", Sequence: b.windows, Epoch: b.grant.Route.Epoch, ConfigHash: b.grant.ConfigHash,
		Length: 100 * time.Millisecond, Counts: []telemetry.Count{{Series: good, N: ok}, {Series: bad, N: failed}},
	}}))
}

// transitionsBy counts the transitions with a cause.
func (b *fixture) transitionsBy(cause phases.Cause) (n int) {
	b.t.Helper()
	all, err := b.state.Changes(b.t.Context(), items)
	b.check(err)
	for _, c := range all {
		if c.Cause == cause {
			n++
		}
	}
	return n
}

func (b *fixture) phase() phases.Phase {
	b.t.Helper()
	st, err := b.state.Status(b.t.Context(), items)
	b.check(err)
	return st.Route.Phase
}

// hookedState is the state with a hook in Transition.
type hookedState struct {
	*state.Store
	snapshots  atomic.Int64
	transition func(ctx context.Context, decide func(phases.Snapshot) (phases.Move, error)) (phases.Status, error)
}

func (h *hookedState) Snapshot(ctx context.Context, migration string) (phases.Snapshot, error) {
	h.snapshots.Add(1)
	return h.Store.Snapshot(ctx, migration)
}

func (h *hookedState) Transition(ctx context.Context, migration string, decide func(phases.Snapshot) (phases.Move, error)) (phases.Status, error) {
	if h.transition != nil {
		return h.transition(ctx, decide)
	}
	return h.Store.Transition(ctx, migration, decide)
}

// runningEngine is an engine under test. Stop it before the fixture's final state is checked.
type runningEngine struct {
	b     *fixture
	state *hookedState
	judge *judge.Judge
	stop  func()
	mu    sync.Mutex
	log   bytes.Buffer
}

func (e *runningEngine) Write(p []byte) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.log.Write(p)
}

func (e *runningEngine) logged() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.log.String()
}

func (b *fixture) engine(change func(e *runningEngine)) *runningEngine {
	b.t.Helper()
	e := &runningEngine{b: b, state: &hookedState{Store: b.state}}
	e.judge = &judge.Judge{State: b.state, Migration: items, Settings: b.settings, TriggerSources: map[string]judge.Source{}}
	if change != nil {
		change(e)
	}
	ctx, cancel := context.WithCancel(b.t.Context())
	ended := make(chan error, 1)
	e.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			b.t.Errorf("the engine ended with %v", err)
		}
	})
	b.t.Cleanup(e.stop)
	run := &daemon.Engine{
		Migration: items, State: e.state, Interval: time.Duration(evaluateEvery), Log: slog.New(slog.NewTextHandler(e, nil)),
		Rules: func(context.Context) (*daemon.Rules, error) {
			return &daemon.Rules{Settings: b.settings, Judge: e.judge}, nil
		},
	}
	go func() { ended <- run.Run(ctx) }()
	return e
}

func (e *runningEngine) await(what string, cond func() bool) {
	e.b.t.Helper()
	if !testenv.Reached(e.b.t.Context(), cond) {
		e.b.t.Fatalf("in vain for %s:\n%s", what, e.logged())
	}
}

// awaitEvaluations waits until the engine has begun ten more ticks.
func (e *runningEngine) awaitEvaluations() {
	e.b.t.Helper()
	from := e.state.snapshots.Load()
	e.await("ticks", func() bool { return e.state.snapshots.Load() > from+10 })
}
