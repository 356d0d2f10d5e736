package loss

import (
	"os"
	"testing"
	"time"
)

// long reports whether the large searches run too.
func long() bool { return os.Getenv("MIGRATOR_TORTURE") != "" }

// TestWorlds visits every state of every world.
func TestWorlds(t *testing.T) {
	t.Parallel()
	each(t, false, holds)
}

// TestTortureWorlds does so for the large searches.
func TestTortureWorlds(t *testing.T) {
	if !long() {
		t.Skip("MIGRATOR_TORTURE is not set")
	}
	each(t, true, holds)
}

func each(t *testing.T, long bool, check func(*testing.T, *Search)) {
	for _, w := range Worlds() {
		for i := range w.Searches {
			if s := &w.Searches[i]; s.Long == long {
				t.Run(w.Name+"/"+s.Bounds, func(t *testing.T) { check(t, s) })
			}
		}
	}
}

func holds(t *testing.T, s *Search) {
	began := time.Now()
	got := s.Explore(all)
	if got.Trace != nil {
		t.Fatalf("after %d states:\n%s", got.States, got.Trace)
	}
	if !got.Complete {
		t.Fatalf("states were left out: %d visited", got.States)
	}
	if got.States != s.States {
		t.Errorf("%d states, the table has %d", got.States, s.States)
	}
	t.Logf("%d states, all of them, in %s", got.States, time.Since(began).Round(time.Millisecond))
}

// TestMutations switches off one rule at a time: the world must break, as the table has it.
func TestMutations(t *testing.T) {
	t.Parallel()
	mutations(t, false)
}

// TestTortureMutations does so where only a large search finds it.
func TestTortureMutations(t *testing.T) {
	if !long() {
		t.Skip("MIGRATOR_TORTURE is not set")
	}
	mutations(t, true)
}

func mutations(t *testing.T, long bool) {
	for _, w := range Worlds() {
		for _, rule := range w.Rules {
			s := &w.Searches[rule.In]
			if s.Long != long {
				continue
			}
			t.Run(w.Name+"/"+rule.Name, func(t *testing.T) {
				got := s.Explore(all &^ rule.Bit)
				if got.Trace == nil {
					t.Fatalf("nothing broke in %d states", got.States)
				}
				if what := got.Trace.Wrong.Error(); what != rule.Breaks || len(got.Trace.Steps) != rule.Steps {
					t.Errorf("%s after %d steps; the table has: %s after %d", what, len(got.Trace.Steps), rule.Breaks, rule.Steps)
				}
				t.Logf("%s, %d states:\n%s", s.Bounds, got.States, got.Trace)
			})
		}
	}
}

// TestEveryRuleIsListed: each bit below the next belongs to one rule.
func TestEveryRuleIsListed(t *testing.T) {
	t.Parallel()
	for _, w := range Worlds() {
		var seen Rules
		for _, rule := range w.Rules {
			if seen&rule.Bit != 0 {
				t.Errorf("%s: two rules have the bits %b", w.Name, rule.Bit)
			}
			seen |= rule.Bit
		}
		if seen&(seen+1) != 0 {
			t.Errorf("%s: no rule has some of the bits %b", w.Name, seen)
		}
	}
}
