package search

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
)

// counter counts up by one or two, to ten at most.
func counter(bad int) Machine[int] {
	return Machine[int]{
		Next: func(from *int, steps *Steps[int]) {
			for _, by := range []int{1, 2} {
				if *from+by <= 10 {
					steps.Add(*from+by, "add %d", by)
				}
			}
		},
		Check: func(at *int) error {
			if *at == bad {
				return errors.New("reached")
			}
			return nil
		},
	}
}

func TestExploreFindsAShortestPath(t *testing.T) {
	t.Parallel()
	m := counter(5)
	got := m.Explore(0)
	if got.Trace == nil || got.Complete || len(got.Trace.Steps) != 3 || got.Trace.String() != "  1. add 1\n  2. add 2\n  3. add 2\nreached" {
		t.Errorf("%+v, %s", got, got.Trace)
	}
	m = counter(0)
	if got := m.Explore(0); got.Trace == nil || len(got.Trace.Steps) != 0 {
		t.Errorf("the first state is wrong: %+v", got)
	}
}

func TestExploreVisitsEveryState(t *testing.T) {
	t.Parallel()
	m := counter(-1)
	m.Taken = map[string]bool{}
	if got := m.Explore(0); got.States != 11 || !got.Complete || got.Trace != nil || len(m.Taken) != 1 {
		t.Errorf("%+v, taken %v", got, m.Taken)
	}
	if got := m.Explore(4); got.Complete || got.States < 5 {
		t.Errorf("with a limit: %+v", got)
	}
}

func TestWalkEndsWhereNoStepIs(t *testing.T) {
	t.Parallel()
	m := counter(10)
	taken, trace := m.Walk(rand.New(rand.NewPCG(1, 2)), 100)
	if trace == nil || len(trace.Steps) != taken || slices.Contains(trace.Steps, "add 0") {
		t.Errorf("%d steps, %v", taken, trace)
	}
	m = counter(-1)
	if taken, trace = m.Walk(rand.New(rand.NewPCG(1, 2)), 100); trace != nil || taken > 10 {
		t.Errorf("%d steps, %v", taken, trace)
	}
}
