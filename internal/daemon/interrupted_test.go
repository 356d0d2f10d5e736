package daemon

import (
	"testing"
	"time"

	"github.com/stranglerfig/migrator/phases"
)

// TestOverdueOnlyAfterBudgetWithoutProgress: what counts as progress.
func TestOverdueOnlyAfterBudgetWithoutProgress(t *testing.T) {
	t.Parallel()
	const budget, settle = 10 * time.Second, 30 * time.Second
	start := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	type observation struct {
		at      int // seconds
		phase   phases.Phase
		epoch   int64
		since   int
		attempt string
		left    int64
		behind  int
		overdue bool
	}
	for name, observations := range map[string][]observation{
		"fenced since before the first snapshot": {
			{at: 9, phase: phases.Fenced, epoch: 7, attempt: "a"},
			{at: 11, phase: phases.Fenced, epoch: 7, attempt: "a", overdue: true},
		},
		"each epoch restarts the budget": {
			{at: 9, phase: phases.Fenced, epoch: 7, attempt: "a"},
			{at: 12, phase: phases.Lifting, epoch: 8, since: 10, attempt: "a"},
			{at: 19, phase: phases.Lifting, epoch: 8, since: 10, attempt: "a"},
			{at: 21, phase: phases.Lifting, epoch: 8, since: 10, attempt: "a", overdue: true},
		},
		"an attempt in grace counts from when it is seen": {
			{at: 1000, phase: phases.Grace, epoch: 6, attempt: "a"},
			{at: 1009, phase: phases.Grace, epoch: 6, attempt: "a"},
			{at: 1011, phase: phases.Grace, epoch: 6, attempt: "a", overdue: true},
		},
		"another attempt is another command": {
			{at: 1000, phase: phases.Grace, epoch: 6, attempt: "a"},
			{at: 1009, phase: phases.Grace, epoch: 6, attempt: "b"},
			{at: 1018, phase: phases.Grace, epoch: 6, attempt: "b"},
			{at: 1020, phase: phases.Grace, epoch: 6, attempt: "b", overdue: true},
		},
		"a replay that makes progress": {
			{at: 100, phase: phases.Returning, epoch: 9, attempt: "a", left: 5000},
			{at: 109, phase: phases.Returning, epoch: 9, attempt: "a", left: 4500},
			{at: 118, phase: phases.Returning, epoch: 9, attempt: "a", left: 500},
			{at: 127, phase: phases.Returning, epoch: 9, attempt: "a", left: 500},
			{at: 129, phase: phases.Returning, epoch: 9, attempt: "a", left: 500, overdue: true},
		},
		"a rollback that waits for the fleet": {
			{at: 100, phase: phases.Returning, epoch: 9, attempt: "a", left: 5, behind: 1},
			{at: 139, phase: phases.Returning, epoch: 9, attempt: "a", left: 5, behind: 1},
			{at: 141, phase: phases.Returning, epoch: 9, attempt: "a", left: 5, behind: 1, overdue: true},
		},
		"a fence does not wait that long for the fleet": {
			{at: 11, phase: phases.Fenced, epoch: 7, attempt: "a", behind: 1, overdue: true},
		},
		"a database whose clock went back": {
			{at: 10, phase: phases.Fenced, epoch: 7, since: 50, attempt: "a"},
			{at: 19, phase: phases.Fenced, epoch: 7, since: 50, attempt: "a"},
			{at: 21, phase: phases.Fenced, epoch: 7, since: 50, attempt: "a", overdue: true},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var known authorityMove
			for _, l := range observations {
				e := phases.Snapshot{Now: start.Add(time.Duration(l.at) * time.Second), Fleet: phases.Fleet{Behind: l.behind}}
				e.Status = phases.Status{
					Route: phases.Route{Phase: l.phase, Epoch: l.epoch}, Attempt: l.attempt, ReturnRest: l.left,
					RouteSince: start.Add(time.Duration(l.since) * time.Second),
				}
				if !betweenStores(e.Status) {
					t.Fatalf("at %d s: %s is not seen as between the stores", l.at, l.phase)
				}
				known = known.observe(e)
				if got := known.overdue(e, budget, settle); got != l.overdue {
					t.Errorf("at %d s: overdue %v, want %v", l.at, got, l.overdue)
				}
			}
		})
	}
}

func TestCompletedFenceIsNotBetweenStores(t *testing.T) {
	t.Parallel()
	for _, p := range phases.Order {
		for _, attempt := range []string{"", "a"} {
			st := phases.Status{Route: phases.Route{Phase: p}, Attempt: attempt}
			if want := p == phases.Grace && attempt != ""; betweenStores(st) != want {
				t.Errorf("%s with attempt %q: %v", p, attempt, !want)
			}
		}
	}
}
