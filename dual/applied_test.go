package dual

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/phases"
)

// TestWritesFollowWhatIsApplied: a running instance takes over settings with the configuration that they
// belong to, and counts no evidence for one whose settings it could not read.
func TestWritesFollowWhatIsApplied(t *testing.T) {
	t.Parallel()
	bubble(t, "", func(t *testing.T) {
		f := newFleet(route(phases.DualRead))
		f.hash = "first"
		applied, failure, asked := Writing{Deadline: 3 * time.Second, OnTargetFailure: Degrade}, error(nil), 0
		p := newTestInstance(t, f, newTarget(), newLegacy(), adjust{config: func(c *Config) {
			c.Writing.FenceBudget = 7 * time.Second
			c.Applied = func(context.Context) (Writing, error) {
				f.mu.Lock()
				defer f.mu.Unlock()
				asked++
				return applied, failure
			}
		}})
		wants := func(deadline, fence time.Duration, policy Policy, hash string) {
			t.Helper()
			tick(phases.LeaseTTL) // at least one renewal
			if w := p.Writing(); w.Deadline != deadline || w.FenceBudget != fence || w.OnTargetFailure != policy || w.NotAfter != phases.NotAfter || w.Queue != 10000 {
				t.Errorf("writes go by %+v", w)
			}
			if got := p.pinned.Load().configHash; got != hash {
				t.Errorf("operations count for the configuration %q, want %q", got, hash)
			}
		}
		wants(3*time.Second, 7*time.Second, Degrade, "first")
		f.mu.Lock()
		if asked != 1 {
			t.Errorf("asked %d times for one configuration", asked)
		}
		f.mu.Unlock()
		set := func(hash string, w Writing, err error) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.hash, applied, failure = hash, w, err
		}
		set("second", Writing{Deadline: 5 * time.Second}, errDown)
		wants(3*time.Second, 7*time.Second, Degrade, "")
		set("second", Writing{Deadline: 5 * time.Second, FenceBudget: time.Second}, nil)
		wants(5*time.Second, 7*time.Second, RollBack, "second")
		_ = p.stop()
	})
}

// TestOwnNotAfterIsNotLongerThanApplied: [not-after-applied].
func TestOwnNotAfterIsNotLongerThanApplied(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ own, applied, want time.Duration }{
		{0, 0, phases.NotAfter},
		{0, 30 * time.Second, 30 * time.Second},
		{5 * time.Second, 30 * time.Second, 5 * time.Second},
		{time.Minute, 30 * time.Second, 30 * time.Second},
		{time.Minute, 0, phases.NotAfter},
		{5 * time.Second, 0, 5 * time.Second},
	} {
		i, err := Join(t.Context(), Config{Fleet: newFleet(route(phases.Legacy)), Writing: Writing{NotAfter: c.own}, Applied: func(context.Context) (Writing, error) {
			return Writing{NotAfter: c.applied}, nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		if got := i.Writing().NotAfter; got != c.want {
			t.Errorf("own %s, applied %s: %s, want %s", c.own, c.applied, got, c.want)
		}
	}
}

// TestJoinNeedsWhatIsApplied: the lease is given back.
func TestJoinNeedsWhatIsApplied(t *testing.T) {
	t.Parallel()
	f := newFleet(route(phases.Legacy))
	_, err := Join(t.Context(), Config{Fleet: f, Applied: func(context.Context) (Writing, error) { return Writing{}, errDown }})
	if !errors.Is(err, errDown) || len(f.leases) != 0 {
		t.Errorf("%v, with %d leases", err, len(f.leases))
	}
}

// TestTheQueueOfBackgroundWrites keeps its order, its bound, and nothing of what was taken.
func TestTheQueueOfBackgroundWrites(t *testing.T) {
	t.Parallel()
	var q jobQueue
	q.init()
	next, taken := 0, 0
	for round := range 200 {
		for range round % 13 {
			if ok := q.add(numbered(next), 20); ok != (next-taken < 20) {
				t.Fatalf("%d jobs wait, and another is taken: %t", next-taken, ok)
			} else if ok {
				next++
			}
		}
		for range round % 11 {
			if taken == next {
				break
			}
			if j := q.take(t.Context()); j != numbered(taken) {
				t.Fatalf("took %v, want %d", j, taken)
			}
			taken++
		}
		if q.len() != next-taken || cap(q.jobs) > 64 {
			t.Fatalf("%d jobs of %d, capacity %d", q.len(), next-taken, cap(q.jobs))
		}
	}
	if q.add(numbered(0), 0) {
		t.Error("a bound of 0 takes a job")
	}
	for q.len() > 0 {
		q.take(t.Context())
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if j := q.take(ended); j != nil {
		t.Errorf("took %v from an empty queue", j)
	}
}

type numbered int

func (numbered) do(context.Context) {}
