//go:build unix

package cases

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/internal/app"
	"github.com/stranglerfig/migrator/internal/control"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/test/statetest"
	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/reconcile"
	"github.com/stranglerfig/migrator/store"
)

const (
	lossKeys    = 40
	lossClients = 8
)

// side is the store that a loss concerns.
type side string

const (
	ofTarget side = "target"
	ofLegacy side = "legacy"
	ofState  side = "state"
	ofNone   side = "" // it must change nothing
)

// loss is a store that forgets, or is another one than it was, while clients read and write.
type loss struct {
	name   string
	of     side
	phases []phases.Phase
	open   func(r *lossRound) options
	copy   func(r *lossRound) // under traffic, some time before; nil: nothing is copied
	strike func(r *lossRound)
	seen   func(r *lossRound) bool // it is reported; nil: the migration is unclean
}

// losses are the faults of stores that forget.
func losses() []loss {
	reading := []phases.Phase{phases.Cutover, phases.Grace, phases.Retain}
	ownRedis := func(r *lossRound) options {
		r.redis = testenv.Redis(r.t)
		return options{targetURL: r.redis.URL()}
	}
	ownLegacy := func(r *lossRound) options {
		r.cluster = newCluster(r.t)
		return options{legacyURL: r.cluster.database("shop")}
	}
	replace := func(r *lossRound, promote bool) {
		r.cluster.stop("immediate")
		if promote {
			r.older.promote()
		} else {
			r.older.start()
		}
	}
	return []loss{
		{name: "target emptied", of: ofTarget, phases: reading, open: ownRedis, strike: func(r *lossRound) {
			redisDo(r.t, r.redis, []any{"FLUSHALL"}, []any{"PING"})
		}},
		{name: "one shard emptied", of: ofTarget, phases: reading, open: func(r *lossRound) options {
			cluster, err := testenv.StartRedisCluster(r.t.Context(), 3)
			if err != nil {
				r.t.Fatal(err)
			}
			r.t.Cleanup(func() { _ = cluster.Stop(context.Background()) })
			r.redis = cluster.Nodes[rand.IntN(3)]
			return options{targetURL: cluster.URL()}
		}, strike: func(r *lossRound) {
			redisDo(r.t, r.redis, []any{"FLUSHALL"}, []any{"PING"})
		}},
		{name: "target put back to an older file", of: ofTarget, phases: reading, open: ownRedis, copy: func(r *lossRound) {
			r.dump = dumped(r.t, r.redis)
		}, strike: func(r *lossRound) {
			commands := [][]any{{"MULTI"}, {"FLUSHALL"}}
			for key, value := range r.dump {
				commands = append(commands, []any{"RESTORE", key, "0", value})
			}
			redisDo(r.t, r.redis, append(commands, []any{"EXEC"}, []any{"PING"})...)
		}},
		{
			name: "legacy's data directory put back to a copy", of: ofLegacy, phases: []phases.Phase{phases.Cutover, phases.Grace}, open: ownLegacy,
			copy: func(r *lossRound) { r.older = r.cluster.copied() }, strike: func(r *lossRound) { replace(r, false) },
		},
		{
			name: "failover of legacy to a standby that lags", of: ofLegacy, phases: []phases.Phase{phases.Cutover, phases.Grace}, open: ownLegacy,
			copy: func(r *lossRound) { r.older = r.cluster.copied() }, strike: func(r *lossRound) { replace(r, true) },
		},
		{
			name: "failover of legacy to a standby without the fence", of: ofLegacy, phases: []phases.Phase{phases.Retain}, open: ownLegacy,
			copy: func(r *lossRound) {}, strike: func(r *lossRound) { replace(r, true) },
		},
		{
			name: "legacy upgraded with another identifier", of: ofLegacy, phases: []phases.Phase{phases.Cutover, phases.Grace}, open: ownLegacy,
			strike: func(r *lossRound) {
				r.cluster.stop("fast")
				r.cluster.upgraded()
			},
		},
		{name: "state put back to a copy", of: ofState, phases: []phases.Phase{phases.DualRead, phases.Cutover}, open: func(r *lossRound) options {
			r.cluster = newCluster(r.t)
			return options{stateURL: r.cluster.database("state")}
		}, copy: func(r *lossRound) { r.older = r.cluster.copied() }, strike: func(r *lossRound) { replace(r, true) }},
		{name: "a second migration copied", of: ofNone, phases: reading, open: ownRedis, strike: func(r *lossRound) {
			st, err := state.Open(r.t.Context(), statetest.URL(r.t))
			if err != nil {
				r.t.Fatal(err)
			}
			defer st.Close()
			if _, err := st.Pool().Exec(r.t.Context(), "UPDATE migrator.identity SET id = gen_random_uuid()"); err != nil {
				r.t.Fatal(err)
			}
			if _, err := app.Apply(r.t.Context(), st, r.w.fileOf("items", "items"), false, app.ColumnFlags{}); !errors.Is(err, store.ErrOwned) {
				r.t.Errorf("the copy was applied: %v", err)
			}
		}, seen: func(*lossRound) bool { return true }},
		{name: "target's URL of another server", of: ofNone, phases: reading, open: ownRedis, strike: func(r *lossRound) {
			m := *r.w.m
			m.Target.URL = testenv.Redis(r.t).URL()
			elsewhere, err := m.OpenTarget(r.t.Context(), r.w.legacy.Schema())
			if err != nil {
				r.t.Fatal(err)
			}
			r.t.Cleanup(func() { _ = elsewhere.Close() })
			r.astray = r.w.application(setup{name: "astray", policy: r.policy, marked: true, target: elsewhere})
		}, seen: func(r *lossRound) bool { return r.astray.i.Stats().MarkLost }},
	}
}

// lossRound is one loss in one phase.
type lossRound struct {
	t       *testing.T
	loss    loss
	phase   phases.Phase
	policy  dual.Policy
	w       *world
	redis   *testenv.RedisServer
	cluster *cluster
	older   *cluster
	dump    map[string]string
	apps    []*application
	astray  *application

	mu       sync.Mutex
	records  [lossKeys]lossRecord
	struck   time.Time // zero: not yet
	settled  time.Time // the loss is reported, and every instance acts on it; zero: not yet
	wrong    []string  // reads that no exception allows
	inWindow int       // wrong reads until the loss was settled
	ops      *atomic.Int64
}

// lossRecord is what its one client knows of a record.
type lossRecord struct {
	acknowledged string
	at           time.Time
	maybe        []string        // failed since, with unknown outcome
	ever         map[string]bool // all that it may ever have been
}

func (r *lossRecord) allows(got string) bool {
	return got == r.acknowledged || slices.Contains(r.maybe, got)
}

// client reads and writes its own records, on any instance.
func (r *lossRound) client(ctx context.Context, number int) {
	for n := 0; ctx.Err() == nil; n++ {
		id := number + lossClients*rand.IntN(lossKeys/lossClients)
		apps := r.apps
		r.mu.Lock()
		if r.astray != nil && r.phase != phases.Retain && !r.settled.IsZero() {
			apps = append(slices.Clone(apps), r.astray)
		}
		r.mu.Unlock()
		a := apps[rand.IntN(len(apps))]
		if n%3 == 0 {
			name := fmt.Sprintf("%d of client %d", n, number)
			r.mu.Lock()
			r.records[id].ever[name] = true
			r.records[id].maybe = append(r.records[id].maybe, name)
			r.mu.Unlock()
			if err := a.write(int64(id+1), name); err == nil {
				r.mu.Lock()
				r.records[id].acknowledged, r.records[id].at, r.records[id].maybe = name, time.Now(), nil
				r.mu.Unlock()
			} else {
				pauseBriefly(ctx)
			}
			r.ops.Add(1)
			continue
		}
		began := time.Now()
		v, found, err := a.reader.Get(ctx, int64(id+1))
		r.ops.Add(1)
		if err != nil {
			pauseBriefly(ctx)
			continue
		}
		got := v.Name
		if !found {
			got = none
		}
		r.judge(id, got, began)
	}
}

func pauseBriefly(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(5 * time.Millisecond): // a store is down: don't spin
	}
}

// judge decides about a read's answer.
func (r *lossRound) judge(id int, got string, began time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	k := &r.records[id]
	switch {
	case k.allows(got):
	case !r.struck.IsZero() && (r.settled.IsZero() || began.Before(r.settled)):
		r.inWindow++ // the exception: until the loss is found
	case r.policy == dual.Degrade && r.astray != nil && k.ever[got]:
		r.inWindow++ // the exception of degrade: the astray instance alone knows its write, until repair
	case r.loss.of == ofLegacy && k.at.Before(r.settled) && k.ever[got]:
		r.inWindow++ // legacy has lost the write itself
	default:
		r.wrong = append(r.wrong, fmt.Sprintf("key %d read %q, %q was acknowledged %s", id+1, got, k.acknowledged, k.at.Format(time.StampMilli)))
	}
}

// leads does what the daemon's leader does, more often.
func (r *lossRound) leads(ctx context.Context, l *leader) {
	for ctx.Err() == nil {
		_, _ = r.w.state.NoteServer(ctx)
		lost := l.look() != nil
		_, _ = l.job.WatchLegacy(ctx)
		st, err := r.w.state.Status(ctx, "items")
		switch {
		case err != nil || lost:
		case st.Route.Phase == phases.Retain:
			_, _ = r.w.controller().RestoreFence(ctx)
		case st.JournalKeys > 0:
			_, _ = l.job.RepairJournal(ctx)
		}
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// run returns when all is checked.
func (r *lossRound) run() {
	t := r.t
	o := r.loss.open(r)
	o.rows = lossKeys
	r.w = newWorld(t, o)
	w := r.w
	l := w.leader()
	for n := range 2 {
		r.apps = append(r.apps, w.application(setup{name: fmt.Sprintf("app-%d", n), policy: r.policy, marked: true}))
	}
	for id := range r.records {
		name := fmt.Sprintf("item %d", id+1)
		r.records[id] = lossRecord{acknowledged: name, at: time.Now(), ever: map[string]bool{name: true}}
	}
	if r.phase == phases.Retain && r.loss.of == ofLegacy {
		w.upto(phases.Grace)
		r.older = r.cluster.copied() // before the fence
	}
	if r.phase != phases.Retain || w.status().Route.Phase != phases.Grace {
		w.upto(r.phase)
	} else if _, err := w.controller().Advance(w.ctx, unreconciled()); err != nil {
		t.Fatal(err)
	}
	leading, stopLeading := context.WithCancel(w.ctx)
	var leaders, clients sync.WaitGroup
	leaders.Go(func() { r.leads(leading, l) })
	defer leaders.Wait()
	defer stopLeading()
	traffic, stopTraffic := context.WithCancel(w.ctx)
	defer stopTraffic()
	for n := range lossClients {
		clients.Go(func() { r.client(traffic, n) })
	}
	r.serve(300)
	if r.loss.copy != nil {
		r.loss.copy(r)
	}
	// Beats and looks between the copy and the loss, so that both are known.
	seen := w.status().TargetSeen
	testenv.Await(w.t, "a beat", func() bool { return w.status().TargetSeen.After(seen) })
	r.serve(300)
	r.mu.Lock()
	r.struck = time.Now()
	r.mu.Unlock()
	r.loss.strike(r)
	testenv.Await(w.t, "the loss to be reported: "+r.loss.name, r.reported)
	testenv.Await(w.t, "the instances to act on it", func() bool {
		st, err := w.state.Status(w.ctx, "items")
		if err != nil {
			return false
		}
		for _, a := range r.apps {
			if st.TargetLost != "" && !a.i.Stats().MarkLost || a.i.Route() != st.Route {
				return false
			}
		}
		return true
	})
	r.mu.Lock()
	r.settled = time.Now()
	t.Logf("reported, and acted on by every instance, %s after it began", r.settled.Sub(r.struck).Round(time.Millisecond))
	r.mu.Unlock()
	r.serve(300) // where nothing is served, operations end with an error, and reads that do answer are checked
	stopTraffic()
	clients.Wait()
	for _, wrong := range r.wrong {
		t.Error(wrong)
	}
	stopLeading()
	leaders.Wait()
	r.check(l)
}

// reported: the migration says of itself that a store has lost data.
func (r *lossRound) reported() bool {
	if r.loss.seen != nil {
		return r.loss.seen(r)
	}
	st, err := r.w.state.Status(r.w.ctx, "items")
	if err != nil || st.Unclean == "" {
		return false
	}
	return r.phase == phases.Retain || !st.Route.ReadsTarget() || r.loss.of == ofState
}

// serve waits for operations of the clients.
func (r *lossRound) serve(operations int64) {
	r.t.Helper()
	enough := r.ops.Load() + operations
	testenv.Await(r.t, "the clients' operations", func() bool { return r.ops.Load() >= enough })
}

// check compares what is left with what was acknowledged.
func (r *lossRound) check(l *leader) {
	t, w := r.t, r.w
	testenv.Await(w.t, "the state to answer", func() bool {
		_, err := w.state.Status(w.ctx, "items")
		return err == nil
	})
	if r.phase == phases.Retain {
		r.checkReturn(l)
		return
	}
	var lost *app.TargetLostError
	if err := l.job.CheckTarget(w.ctx); errors.As(err, &lost) {
		if _, err := l.job.Claim(w.ctx); err != nil {
			t.Fatal(err)
		}
	} else if err != nil {
		t.Fatal(err)
	}
	if r.loss.of != ofNone && w.status().Unclean == "" {
		t.Error("the migration is clean after a loss")
	}
	_, findings, err := l.job.Reconcile(w.ctx, app.Reconcile{RunOptions: reconcile.RunOptions{Full: true, TwoWay: true}})
	w.check(err)
	found := map[string]bool{}
	for _, f := range findings {
		found[string(f.Key)] = true
	}
	for id := range r.records {
		k, name := &r.records[id], w.inLegacy(int64(id+1))
		switch {
		case k.allows(name):
		case r.loss.of != ofLegacy:
			t.Errorf("key %d: legacy has %q, %q was acknowledged", id+1, name, k.acknowledged)
		case k.allows(w.inTarget(int64(id+1))) && !found[string(key(int64(id+1)))]:
			t.Errorf("key %d: legacy has %q and has lost %q, which the target has, and reconcile shows no difference", id+1, name, k.acknowledged)
		case !k.ever[name]:
			t.Errorf("key %d: legacy has %q, which was never written", id+1, name)
		}
	}
	_, _, err = l.job.Reconcile(w.ctx, app.Reconcile{RunOptions: reconcile.RunOptions{Full: true, TwoWay: true, Repair: true, Force: "a test"}})
	w.check(err)
	for id := range r.records {
		if a, b := w.inLegacy(int64(id+1)), w.inTarget(int64(id+1)); a != b {
			t.Errorf("key %d: repaired, legacy has %q and the target %q", id+1, a, b)
		}
	}
}

// checkReturn: the return says what is lost, and loses nothing else.
func (r *lossRound) checkReturn(l *leader) {
	t, w := r.t, r.w
	var lost *app.TargetLostError
	if err := l.job.CheckTarget(w.ctx); errors.As(err, &lost) {
		if r.loss.of != ofTarget {
			t.Errorf("the target is lost: %v", err)
		}
		if _, err := l.job.Claim(w.ctx); err != nil {
			t.Fatal(err)
		}
	} else if err != nil {
		t.Fatal(err)
	}
	back := control.Rollback{Reason: "a test"}
	for range 3 {
		_, err := w.controller().Rollback(w.ctx, back)
		var missing *control.MissingError
		var fence *control.FenceLostError
		switch {
		case err == nil:
		case errors.As(err, &missing):
			if r.loss.of != ofTarget {
				t.Errorf("%d records are missing", missing.Missing)
			}
			back.AcceptMissing = missing.Missing
			continue
		case errors.As(err, &fence):
			continue
		default:
			t.Fatal(err)
		}
		break
	}
	st := w.status()
	if r.loss.of != ofNone && (st.Route.Phase != phases.DualRead || st.Unclean == "") {
		t.Errorf("after the return: %s, unclean: %q", st.Route, st.Unclean)
	}
	for id := range r.records {
		k, name := &r.records[id], w.inLegacy(int64(id+1))
		if k.allows(name) || r.loss.of != ofNone && k.ever[name] {
			continue
		}
		t.Errorf("key %d: legacy has %q, %q was acknowledged", id+1, name, k.acknowledged)
	}
}

// TestTortureLosses lets stores forget, one after the other, for as long as MIGRATOR_TORTURE says.
func TestTortureLosses(t *testing.T) {
	text := os.Getenv("MIGRATOR_TORTURE")
	if text == "" {
		t.Skip("make torture runs it: each loss has tests of its own")
	}
	only := os.Getenv("MIGRATOR_TORTURE_LOSS") // part of a name: others are left out
	left, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("MIGRATOR_TORTURE: %v", err)
	}
	policy := dual.Policy(os.Getenv("MIGRATOR_TORTURE_POLICY"))
	count := map[string]int{}
	var ops atomic.Int64
	window := 0
	list := slices.DeleteFunc(losses(), func(l loss) bool { return !strings.Contains(l.name, only) })
	for n, until := 0, time.Now().Add(left); time.Now().Before(until) || n < len(list); n++ {
		one := list[n%len(list)]
		phase := one.phases[n/len(list)%len(one.phases)]
		t.Run(strings.ReplaceAll(fmt.Sprintf("%s in %s", one.name, phase), " ", "_"), func(t *testing.T) {
			r := &lossRound{t: t, loss: one, phase: phase, policy: policy, ops: &ops}
			r.run()
			window += r.inWindow
		})
		count[one.name]++
	}
	t.Logf("%d operations; %d wrong reads before a loss was found, or of what legacy itself had lost; 0 others, unless reported above", ops.Load(), window)
	for _, name := range slices.Sorted(maps.Keys(count)) {
		t.Logf("%4d × %s", count[name], name)
	}
}
