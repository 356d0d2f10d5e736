//go:build unix

package torture

import (
	"bytes"
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

	"github.com/anishathalye/porcupine"
	"golang.org/x/sync/errgroup"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/phases"
)

const (
	envDuration = "MIGRATOR_TORTURE"
	envSeed     = "MIGRATOR_TORTURE_SEED"
	envStory    = "MIGRATOR_TORTURE_STORY" // a file for what happened, the clients' operations apart

	keys    = 12
	clients = 6
	short   = 10 * time.Second // of faults, in make test
	round   = time.Minute      // the longest history that is checked in one go
)

// TestTorture breaks everything at random for ten seconds, or for as long as
// MIGRATOR_TORTURE says, in rounds of a minute, each on a world of its own.
func TestTorture(t *testing.T) {
	left := short
	if text := os.Getenv(envDuration); text != "" {
		var err error
		if left, err = time.ParseDuration(text); err != nil {
			t.Fatalf("%s: %v", envDuration, err)
		}
	}
	seed := rand.Uint64() >> 16
	if text := os.Getenv(envSeed); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("%s: %v", envSeed, err)
		}
	}
	for ; left > 0; left, seed = left-round, seed+1 {
		d := min(left, round)
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			defer func() {
				if t.Failed() {
					t.Logf("to repeat it:\n  %s=%s %s=%d go test -run 'TestTorture$' -v ./internal/torture", envDuration, d, envSeed, seed)
				}
			}()
			w := newWorld(t, 3)
			w.torture(seed, d)
		})
	}
}

// torture is one run.
func (w *world) torture(seed uint64, d time.Duration) {
	t := w.t
	source := func(n uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, n)) } //nolint:gosec // to be repeated
	legacy, target, err := w.open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer legacy.Close()
	defer func() { _ = target.Close() }()
	for _, s := range w.instances {
		if err := s.run(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	moves := &operator{w: w, random: source(1), visited: map[phases.Phase]int{}}
	breaks := &faults{w: w, random: source(2), count: map[string]int{}}

	traffic, stopTraffic := context.WithCancel(t.Context())
	defer stopTraffic()
	var serving, breaking errgroup.Group
	serving.Go(func() error { return w.watch(traffic, target, allKeys(keys)) })
	for n := range clients {
		serving.Go(func() error { return newClient(w, seed, n, keys).run(traffic) })
	}
	moves.walk(t.Context(), phases.Order[moves.random.IntN(phases.Retain.Position()+1)])
	w.story.tell("run", "faults begin")
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	moves.faults = true
	breaking.Go(func() error { return moves.run(ctx) })
	breaking.Go(func() error { return breaks.run(ctx) })
	if err := breaking.Wait(); err != nil {
		t.Errorf("a fault: %v", err)
	}
	w.story.tell("run", "no more faults")
	at, err := w.settle(t.Context())
	if err != nil {
		t.Errorf("%v", err)
	}
	stopTraffic()
	if err := serving.Wait(); err != nil {
		t.Errorf("%v", err)
	}
	if err == nil {
		if err := w.prove(t.Context(), at, target, newClient(w, seed, clients, keys)); err != nil {
			t.Errorf("%v", err)
		}
	}
	w.report(seed, at, moves, breaks)
}

// report judges every key, and says what the run was like.
func (w *world) report(seed uint64, at phases.Phase, moves *operator, breaks *faults) {
	t := w.t
	var total dual.Stats
	for _, s := range w.instances {
		total = sum(total, s.stats())
		s.stop()
	}
	if err := w.chronicle(t.Context()); err != nil {
		t.Errorf("%v", err)
	}
	t.Logf("seed %d, at rest in %s after %d advances; phases seen: %s", seed, at, moves.advances, counted(moves.visited))
	t.Logf("faults: %s", counted(breaks.count))
	t.Logf("operations: %s", counted(w.history.count()))
	t.Logf("instances: %d fallbacks, %d lapsed reads, %d target failures, %d journalled, %d rescued, %d failed, %d fence waits, %d rejoins",
		total.Fallbacks, total.LapsedReads, total.TargetFailures, total.Journalled, total.Rescued, total.Failed, total.FenceWaits, total.Rejoins)
	t.Logf("exceptions that were counted, and are excused: %d unsettled, %d degraded, %d abandoned", total.Unsettled, total.Degraded, total.Abandoned)
	if path := os.Getenv(envStory); path != "" {
		var text bytes.Buffer
		timeline(&text, w.story.all(), nil, 0, 0)
		if err := os.WriteFile(path, text.Bytes(), 0o600); err != nil {
			t.Error(err)
		}
	}
	for _, v := range w.judge() {
		if v.violated() {
			text, err := publish(seed, w.story.all(), v)
			if err != nil {
				t.Error(err)
			}
			t.Error(text)
		}
	}
	if n := w.history.count()[string(put)+" "+string(done)]; n < 50 {
		t.Errorf("only %d writes were acknowledged: this run proves nothing", n)
	}
}

// judge checks all keys, side by side.
func (w *world) judge() []*verdict {
	byKey := w.history.byKey()
	verdicts := make([]*verdict, len(byKey))
	var group errgroup.Group
	group.SetLimit(2)
	for i, key := range slices.Sorted(maps.Keys(byKey)) {
		group.Go(func() error {
			verdicts[i] = judge(key, byKey[key], 20*time.Second)
			return nil
		})
	}
	_ = group.Wait()
	strictly := 0
	for _, v := range verdicts {
		if v.result == porcupine.Unknown {
			w.t.Logf("key %d: the model could not decide in time over %d operations; the ledger's check stands", v.key, len(v.ops))
		}
		if v.strict == porcupine.Ok {
			strictly++
		}
	}
	w.t.Logf("of %d keys, %d are strictly linearizable too, unacknowledged writes included", len(verdicts), strictly)
	return verdicts
}

func counted[K ~string](m map[K]int) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		parts = append(parts, fmt.Sprintf("%s %d", k, m[k]))
	}
	return strings.Join(parts, ", ")
}
