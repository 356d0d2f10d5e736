package phases

import (
	"testing"

	"pgregory.net/rapid"
)

// fleetModel is a fleet reduced to the epoch that each instance has acknowledged, and
// the epoch that it is really on, which is that one or any later one.
type fleetModel struct {
	epochs    []Route // by epoch, from 1
	instances []struct{ acknowledged, actual int64 }
}

func (f *fleetModel) present() Route { return f.epochs[len(f.epochs)-1] }

// live are the live routes as the protocol defines them: of every epoch from the lowest
// acknowledged one to the present one.
func (f *fleetModel) live() []Route {
	lowest := int64(len(f.epochs)) + 1
	for _, i := range f.instances {
		lowest = min(lowest, i.acknowledged)
	}
	return f.epochs[lowest-1:]
}

// TestLiveRoutesAreCompatible walks at random through legal moves while instances
// lag behind, join and leave.
func TestLiveRoutesAreCompatible(t *testing.T) {
	t.Parallel()
	visited := map[Phase]int{}
	rapid.Check(t, func(t *rapid.T) {
		f := &fleetModel{epochs: []Route{{Phase: Legacy, Epoch: 1}}}
		steps := rapid.IntRange(1, 120).Draw(t, "steps")
		for range steps {
			switch rapid.IntRange(0, 9).Draw(t, "action") {
			case 0:
				now := f.present().Epoch
				f.instances = append(f.instances, struct{ acknowledged, actual int64 }{now, now})
			case 1:
				if n := len(f.instances); n > 0 {
					f.instances = f.instances[:n-1]
				}
			case 2, 3, 4, 5: // an instance swaps its route, and perhaps acknowledges it
				if n := len(f.instances); n > 0 {
					i := &f.instances[rapid.IntRange(0, n-1).Draw(t, "instance")]
					i.actual = rapid.Int64Range(i.actual, f.present().Epoch).Draw(t, "actual")
					i.acknowledged = rapid.Int64Range(i.acknowledged, i.actual).Draw(t, "acknowledged")
				}
			default:
				f.move(t)
				visited[f.present().Phase]++
			}
			f.check(t)
		}
	})
	for _, p := range allPhases[1:] {
		if visited[p] == 0 {
			t.Errorf("no walk reached %s: the test proves little", p)
		}
	}
}

// move tries one random route. A legal one becomes the next epoch.
func (f *fleetModel) move(t *rapid.T) {
	from := f.present()
	var candidates []Route
	for _, p := range allPhases {
		for _, r := range routesOf(p) {
			if Legal(from, r, nil) == nil {
				candidates = append(candidates, r)
			}
		}
	}
	if len(candidates) == 0 {
		return
	}
	// go forward more often than back, or the walk never leaves the first phases
	to := rapid.SampledFrom(candidates).Draw(t, "to")
	if rapid.IntRange(0, 3).Draw(t, "onward") > 0 {
		for _, c := range candidates {
			if Forward(from, c) && c.Phase != from.Phase {
				to = c
			}
		}
	}
	live := f.live()
	if Legal(from, to, live) != nil {
		return
	}
	for _, r := range live {
		if !Compatible(r, to) {
			t.Fatalf("Legal let %s start beside %s", to, r)
		}
	}
	to.Epoch = from.Epoch + 1
	f.epochs = append(f.epochs, to)
}

func (f *fleetModel) check(t *rapid.T) {
	live := map[class]bool{}
	for _, i := range f.instances {
		a := f.epochs[i.actual-1]
		live[classes[a.Phase]] = true
		for _, j := range f.instances {
			if b := f.epochs[j.actual-1]; !Compatible(a, b) {
				t.Fatalf("%s (epoch %d) runs beside %s (epoch %d)", a, a.Epoch, b, b.Epoch)
			}
		}
	}
	if len(live) > 2 {
		t.Fatalf("%d classes of routes are live", len(live))
	}
}

// TestSettledAdvanceIsAlwaysLegal: with every instance on the present epoch, the settings'
// next step is always legal, and leads from legacy to complete by every step of both ramps.
func TestSettledAdvanceIsAlwaysLegal(t *testing.T) {
	t.Parallel()
	s := DefaultSettings()
	at, seen := Route{Phase: Legacy, Epoch: 1}, []string{"legacy"}
	for at.Phase != Complete {
		to, err := s.Next(at)
		if err != nil {
			t.Fatal(err)
		}
		if at.Phase == Grace { // by way of the fence
			fenced := Route{Phase: Fenced, Epoch: at.Epoch + 1}
			if err := Legal(at, fenced, []Route{at}); err != nil {
				t.Fatal(err)
			}
			at = fenced
		}
		if err := Legal(at, to, []Route{at}); err != nil {
			t.Fatal(err)
		}
		if !Forward(at, to) {
			t.Fatalf("from %s to %s is no advance", at, to)
		}
		to.Epoch = at.Epoch + 1
		at, seen = to, append(seen, to.String())
	}
	want := []string{
		"legacy", "shadow-write", "dual-read 1 %", "dual-read 5 %", "dual-read 10 %", "dual-read 25 %", "dual-read 50 %", "dual-read 100 %",
		"cutover 1 %", "cutover 5 %", "cutover 25 %", "cutover 50 %", "cutover 100 %", "grace", "retain", "complete",
	}
	for i := range want {
		if i >= len(seen) || seen[i] != want[i] {
			t.Fatalf("%q, want %q", seen, want)
		}
	}
	for _, p := range []Phase{Complete, Lifting, Returning} {
		if r, err := s.Next(Route{Phase: p}); err == nil {
			t.Errorf("from %s an advance leads to %s", p, r)
		}
	}
	if to, err := s.Next(Route{Phase: Cutover, Percent: 700}); err != nil || to.Percent != 2500 {
		t.Errorf("from between two steps: %s, %v", to, err)
	}
}
