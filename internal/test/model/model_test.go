package model

import (
	"errors"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/internal/test/model/search"
)

// TestProtocol visits every state of every configuration.
func TestProtocol(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, c := range configs {
		t.Run(c.Name, func(t *testing.T) {
			began := time.Now()
			m := newGen(c, Protocol()).machine()
			m.Taken = seen
			got := m.Explore(0)
			if got.Trace != nil {
				t.Fatalf("after %d states:\n%s", got.States, got.Trace)
			}
			if !got.Complete {
				t.Fatalf("states were left out: %d visited", got.States)
			}
			t.Logf("%d states, all of them, in %s", got.States, time.Since(began).Round(time.Millisecond))
		})
	}
	// A model in which nothing happens keeps every promise.
	for _, what := range happens {
		if !seen[what] {
			t.Errorf("step never taken: %s", what)
		}
	}
}

var happens = []string{
	"the operator goes to legacy", "the operator goes to dual-read 100 %", "the operator goes to cutover 25 %", "the operator goes to grace",
	"instance %d is evicted", "instance %d rejoins on dual-read 100 %", "instance %d ends its read",
	"write %d is refused by the fence", "write %d lands in the target", "write %d lands in the target, which has a later one",
	"write %d is past its not-after", "write %d is journalled", "write %d rolls back to dual-read",
	"write %d is acknowledged: no instance reads the target", "write %d is acknowledged: both stores have it", "write %d fails: a fence attempt is open",
	"write %d finds the route moved", "write %d fails: authority has moved",
	"the repair lands in the target", "the repair finds a later write in the target", "the repair is refused and retries", "the repair times out",
	"an orphaned message lands", "the tombstone expires in the target", "a full reconcile is clean",
	"the backfill takes its barrier", "the backfill has waited for all writes before it", "the backfill finds no row",
	"the backfill is too late and reads again", "the backfill is killed, and resumed", "the backfill sweeps what is older", "the backfill finds nothing to sweep",
	"controller %d finds another attempt", "controller %d finds the route moved", "controller %d commits fenced", "controller %d commits retain",
	"controller %d commits lifting", "controller %d commits returning", "controller %d commits grace", "controller %d can't fence",
	"controller %d voids its attempt: its fence is not raised", "controller %d clears its attempt",
	"controller %d finds the target changed and reads it again", "controller %d writes the target again at the new era", "controller %d dies",
}

// TestMutations switches one rule off at a time: a promise must break.
func TestMutations(t *testing.T) {
	t.Parallel()
	for _, m := range mutations {
		t.Run(m.name, func(t *testing.T) {
			r := Protocol()
			m.off(&r)
			got := Explore(*m.in, r, 1_000_000)
			if got.Trace == nil {
				t.Fatalf("nothing broke in %d states of %q", got.States, m.in.Name)
			}
			if broken := brokenPromise(got.Trace); broken != m.promise {
				t.Errorf("promise %d broke, want %d", broken, m.promise)
			}
			t.Logf("%q, %d states:\n%s", m.in.Name, got.States, got.Trace)
		})
	}
}

// brokenPromise is the number of the promise that a trace breaks.
func brokenPromise(t *search.Trace) int {
	var v *Violation
	if errors.As(t.Wrong, &v) {
		return v.Promise
	}
	return 0
}

// TestEveryRuleHasAMutation: a rule that no test switches off has no effect.
func TestEveryRuleHasAMutation(t *testing.T) {
	t.Parallel()
	seen := map[Rules]bool{}
	for _, m := range mutations {
		r := Protocol()
		m.off(&r)
		seen[r] = true
	}
	if seen[Protocol()] {
		t.Error("a mutation changes nothing")
	}
	if len(seen) != len(mutations) {
		t.Errorf("%d mutations switch only %d rules off", len(mutations), len(seen))
	}
}

// wider draws a configuration too large for a search.
func wider(rng *rand.Rand) Config {
	c := configs[rng.IntN(len(configs))]
	some := func(b *bool) { *b = *b || rng.IntN(3) == 0 }
	for _, b := range []*bool{&c.Fail, &c.Late, &c.LongReads, &c.Lapse, &c.Crash, &c.Backfill, &c.Horizon, &c.Second} {
		some(b)
	}
	c.Single = c.Single && rng.IntN(2) == 0
	c.Name += ", wider"
	c.Epochs = uint8(2 + rng.IntN(maxEpochs-2))
	c.Writes = uint8(1 + rng.IntN(maxWrites))
	c.Repairs = uint8(rng.IntN(4))
	if c.Start == Retain || c.Start == Grace || rng.IntN(3) == 0 {
		c.Fence, c.Return = true, true
	}
	if c.Start != Retain {
		c.Deletes = c.Deletes&1 | uint8(rng.IntN(16))<<1
	}
	c.Kinds = []Kind{Legacy, ShadowWrite, DualRead, CutoverOther, Cutover, Grace}
	if rng.IntN(2) == 0 {
		c.Kinds = c.Kinds[1:]
	}
	return c
}

func TestRandomWalks(t *testing.T) {
	t.Parallel()
	walks(t, 2*time.Second)
}

func TestTortureModelRandomWalks(t *testing.T) {
	bound, err := time.ParseDuration(os.Getenv("MIGRATOR_TORTURE"))
	if err != nil {
		t.Skip("MIGRATOR_TORTURE is not set to a duration")
	}
	walks(t, bound)
}

func walks(t *testing.T, bound time.Duration) {
	seed := uint64(time.Now().UnixNano())
	rng := rand.New(rand.NewPCG(seed, 0))
	total, drawn := 0, 0
	for began := time.Now(); time.Since(began) < bound; drawn++ {
		c := wider(rng)
		n, trace := Walks(c, Protocol(), rng, 300, 400)
		if total += n; trace != nil {
			t.Fatalf("seed %d, %+v:\n%s", seed, c, trace)
		}
	}
	t.Logf("seed %d: %d steps in %d configurations", seed, total, drawn)
}
