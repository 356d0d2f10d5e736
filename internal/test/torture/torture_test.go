//go:build unix

package torture

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/phases"
)

const (
	envDuration = "MIGRATOR_TORTURE"
	envSeed     = "MIGRATOR_TORTURE_SEED"
	envPolicy   = "MIGRATOR_TORTURE_POLICY" // on_target_failure: rollback, fail or degrade
	envTarget   = "MIGRATOR_TORTURE_TARGET" // redis or postgres; without it every fourth round has PostgreSQL
	envReport   = "MIGRATOR_TORTURE_REPORT" // a file for the report as JSON
	envStory    = "MIGRATOR_TORTURE_STORY"  // not empty: keep the event log also if all is well

	keys    = 48
	clients = 16
	short   = 8 * time.Second // in make test, once it is in cutover
	longest = time.Minute     // the longest history that is checked at once
)

// TestTorture injects random faults for as long as MIGRATOR_TORTURE specifies, in rounds of a
// minute, each with its own world and the next seed. Without it, for some seconds on each of
// two shapes.
func TestTorture(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64() >> 16
	if text := os.Getenv(envSeed); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("%s: %v", envSeed, err)
		}
	}
	policy := dual.RollBack
	switch p := dual.Policy(os.Getenv(envPolicy)); p {
	case "":
	case dual.RollBack, dual.Fail, dual.Degrade:
		policy = p
	default:
		t.Fatalf("%s: %q", envPolicy, p)
	}
	target := os.Getenv(envTarget)
	if target != "" && target != "redis" && target != "postgres" {
		t.Fatalf("%s: %q", envTarget, target)
	}
	text := os.Getenv(envDuration)
	if text == "" {
		for n, kind := range []shape{{policy: policy, target: "redis"}, {policy: dual.Fail, target: "postgres"}} {
			t.Run(kind.String(), func(t *testing.T) {
				t.Parallel()
				all := newReport(string(kind.policy))
				all.round(t, kind, seed+uint64(n), short)
				all.log(t, shortShare)
			})
		}
		return
	}
	left, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("%s: %v", envDuration, err)
	}
	all := newReport(string(policy))
	for n := 1; left > 0; left, seed, n = left-longest, seed+1, n+1 {
		kind := shape{policy, target}
		if target == "" {
			kind.target = "redis"
			if n%4 == 0 {
				kind.target = "postgres"
			}
		}
		d := min(left, longest)
		t.Run(kind.String(), func(t *testing.T) { all.round(t, kind, seed, d) })
		if path := os.Getenv(envReport); path != "" { // partial, in case the run is interrupted
			if err := all.write(path); err != nil {
				t.Error(err)
			}
		}
	}
	all.log(t, 1)
}

// onlyLong skips a test of the checks themselves, which only make torture runs.
func onlyLong(t *testing.T) {
	t.Helper()
	if os.Getenv(envDuration) == "" {
		t.Skip(envDuration + " is not set")
	}
}

// log logs the report, and fails a run that has done less than its length requires.
func (r *report) log(t *testing.T, share float64) {
	t.Log("\n" + r.String())
	for _, lack := range r.lacks(share) {
		t.Errorf("this run proves too little: %s", lack)
	}
}

// round is one world, added to the report.
func (r *report) round(t *testing.T, kind shape, seed uint64, d time.Duration) {
	r.Rounds = append(r.Rounds, round{Seed: seed, Target: kind.target, Seconds: d.Seconds()})
	defer func() {
		r.Rounds[len(r.Rounds)-1].Passed = !t.Failed()
		if t.Failed() {
			t.Logf("to repeat it:\n  %s=%s %s=%d %s=%s %s=%s go test -run 'TestTorture$' -v ./internal/test/torture",
				envDuration, d, envSeed, seed, envPolicy, kind.policy, envTarget, kind.target)
		}
	}()
	newWorld(t, kind, 3).torture(seed, d, r)
}

// torture is one run.
func (w *world) torture(seed uint64, d time.Duration, all *report) {
	t := w.t
	legacy, target, err := w.open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer legacy.Close()
	defer func() { _ = target.Close() }()
	w.deploy()
	for _, name := range []string{"daemon-1", "daemon-2"} {
		d, err := w.newDaemon(name)
		if err != nil {
			t.Fatal(err)
		}
		w.daemons = append(w.daemons, d)
	}
	moves := &operator{w: w}
	breaks := &faults{w: w, count: map[string]int{}, enough: func() bool { return false }}

	traffic, stopTraffic := context.WithCancel(t.Context())
	defer stopTraffic()
	var serving errgroup.Group
	kept, stopDaemons := context.WithCancel(t.Context())
	defer stopDaemons()
	var keeping errgroup.Group
	for _, d := range w.daemons {
		keeping.Go(func() error { return d.supervise(kept) })
	}
	serving.Go(func() error { return w.watch(traffic, target, allKeys(keys)) })
	samplingCtx, stopSampling := context.WithCancel(t.Context())
	defer stopSampling()
	var sampling errgroup.Group
	sampling.Go(func() error { return w.sampleState(samplingCtx) })
	many := clients
	if d < longest {
		many = 6 // other tests run too
	}
	for n := range many {
		serving.Go(func() error { return newClient(w, seed, n, keys).run(traffic) })
	}

	moves.random = newRandom(seed, 9)
	moves.advanceTo(t.Context(), phases.Cutover)
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	began, before := time.Now(), w.history.len()
	if d == short { // beside all other tests: for longer where the machine is busy
		ctx, cancel = context.WithCancel(t.Context())
		defer cancel()
		operations, faults := minimum(d.Seconds(), shortShare)
		breaks.enough = func() bool {
			return time.Since(began) > d && w.history.len()-before >= operations && breaks.made >= faults
		}
	}
	for wave := uint64(0); ctx.Err() == nil && !breaks.enough(); wave++ {
		// Each wave draws again, whatever the result of the one before.
		moves.random, breaks.random = newRandom(seed, 10+2*wave), newRandom(seed, 11+2*wave)
		all.Stormy += w.wave(ctx, moves, breaks, began, d < longest && wave == 0)
	}
	all.Seconds += time.Since(began).Seconds()
	all.Operations += w.history.len() - before
	w.events.add("run", "no more faults")
	at, err := w.quiesce(t.Context())
	if err != nil {
		t.Errorf("%v", err)
	}
	stopTraffic()
	if err := serving.Wait(); err != nil {
		t.Errorf("%v", err)
	}
	if err == nil {
		if err := w.verifyFinalState(t.Context(), at, target, newClient(w, seed, clients, keys)); err != nil {
			t.Errorf("%v", err)
		}
	}
	stopSampling()
	_ = sampling.Wait()
	stopDaemons()
	if err := keeping.Wait(); err != nil {
		t.Errorf("%v", err)
	}
	all.Rounds[len(all.Rounds)-1].Rest = string(at)
	w.report(seed, breaks, all)
}

// wave moves to a phase without faults, measures there a rollback and a dead target, and then
// injects faults for some seconds: for longer on a slow machine, until there were enough
// faults. In a hurry it measures nothing. It returns how many operations ended during the
// faults.
func (w *world) wave(ctx context.Context, moves *operator, breaks *faults, began time.Time, hurry bool) int {
	const c, g = phases.Cutover, phases.Grace
	destinations := []phases.Phase{phases.ShadowWrite, phases.DualRead, c, c, c, c, g, g, g, g, phases.Retain, phases.Retain}
	to := destinations[moves.random.IntN(len(destinations))]
	faultTime := time.Duration(6+moves.random.IntN(5)) * time.Second
	die := w.killTarget
	if moves.random.IntN(2) == 0 {
		die = w.cutTarget
	}
	moves.faults = false
	late := func() bool {
		return float64(breaks.made) < 1.4*faultsPerMinute*(time.Since(began)-10*time.Second).Minutes()
	}
	if hurry {
		faultTime = longest // whatever the phase
	} else {
		way, arrive := context.WithCancel(ctx)
		if late() {
			way, arrive = context.WithTimeout(ctx, 5*time.Second) // the faults begin on the way
		}
		moves.advanceTo(way, to)
		arrive()
	}
	if !hurry && !late() && w.measureRollback(ctx, false) {
		moves.advanceTo(ctx, phases.Cutover)
		if _, ok := w.targetRead(ctx); ok && ctx.Err() == nil {
			breaks.count[w.target.name+" dead, alone"]++
			breaks.made++
			if err := die(ctx, false); err != nil {
				w.t.Errorf("a dead target: %v", err)
			}
			moves.advanceTo(ctx, to)
		}
	}
	w.events.add("run", "faults begin")
	before := w.history.len()
	bounded, cancel := context.WithCancel(ctx)
	defer cancel()
	moves.faults = true
	var breaking errgroup.Group
	breaking.Go(func() error { return moves.run(bounded) })
	breaking.Go(func() error {
		defer cancel()
		end := time.Now().Add(faultTime)
		return breaks.run(bounded, func() bool {
			return !breaks.enough() && (time.Now().Before(end) || late())
		})
	})
	if err := breaking.Wait(); err != nil {
		w.t.Errorf("a fault: %v", err)
	}
	return w.history.len() - before
}

func (w *world) deploy() {
	for _, s := range w.instances {
		if err := s.run(w.t.Context()); err != nil {
			w.t.Fatal(err)
		}
	}
}

// newRandom returns a repeatable stream for each seed and number.
func newRandom(seed, stream uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, stream)) }

func counted[K ~string](m map[K]int) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		parts = append(parts, fmt.Sprintf("%s %d", k, m[k]))
	}
	return strings.Join(parts, ", ")
}
