package phases

import (
	"strings"
	"testing"
)

// compatible is written by hand from the protocol: y where instances on the two
// routes may run side by side. The percentages of a ramp make no difference.
//
//	legacy, shadow-write: reads come from legacy alone, so a target that is behind harms no reader
//	shadow-write, dual-read: the same; cutover reads the target, which the background write may not have reached
//	legacy, dual-read: the barrier of the backfill must not pass while an instance is on legacy
//	dual-read, cutover, grace: they write alike, both stores before the acknowledgement
//	grace, fenced: legacy itself refuses what grace writes
//	grace, retain: grace falls back to a legacy that no longer follows
//	fenced, retain: fenced reads the target, and waits with its writes
//	lifting, retain: lifting leads back from fenced, and never to retain
//	returning, retain: retain's writes are journaled before; returning waits
//	retain, complete: both write the target alone
const compatible = `
             legacy shadow-write dual-read cutover grace fenced lifting returning retain complete
legacy       y      y            .         .       .     .      .       .         .      .
shadow-write y      y            y         .       .     .      .       .         .      .
dual-read    .      y            y         y       y     .      .       .         .      .
cutover      .      .            y         y       y     .      .       .         .      .
grace        .      .            y         y       y     y      y       y         .      .
fenced       .      .            .         .       y     y      y       y         y      .
lifting      .      .            .         .       y     y      y       y         .      .
returning    .      .            .         .       y     y      y       y         y      .
retain       .      .            .         .       .     y      .       y         y      y
complete     .      .            .         .       .     .      .       .         y      y
`

var allPhases = []Phase{Legacy, ShadowWrite, DualRead, Cutover, Grace, Fenced, Lifting, Returning, Retain, Complete}

// matrix reads a table of phases by phases.
func matrix(t *testing.T, table string) map[[2]Phase]string {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(table), "\n")
	columns := strings.Fields(lines[0])
	cells := map[[2]Phase]string{}
	for _, line := range lines[1:] {
		words := strings.Fields(line)
		if len(words) != len(columns)+1 {
			t.Fatalf("the line %q has %d cells, want %d", line, len(words)-1, len(columns))
		}
		for i, column := range columns {
			cells[[2]Phase{Phase(words[0]), Phase(column)}] = words[i+1]
		}
	}
	if len(cells) != len(allPhases)*len(allPhases) {
		t.Fatalf("the table has %d pairs, want %d", len(cells), len(allPhases)*len(allPhases))
	}
	return cells
}

// routesOf lists the phase's routes at several percentages.
func routesOf(p Phase) []Route {
	if !p.Ramped() {
		return []Route{{Phase: p}}
	}
	return []Route{{Phase: p, Percent: 1}, {Phase: p, Percent: 500}, {Phase: p, Percent: 5000}, {Phase: p, Percent: All}}
}

func TestCompatiblePairs(t *testing.T) {
	t.Parallel()
	cells := matrix(t, compatible)
	pairs := 0
	for _, p := range allPhases {
		for _, q := range allPhases {
			if cells[[2]Phase{p, q}] != cells[[2]Phase{q, p}] {
				t.Errorf("the table is not symmetric at %s, %s", p, q)
			}
			for _, a := range routesOf(p) {
				for _, b := range routesOf(q) {
					a.Epoch, b.Epoch = 3, 9
					pairs++
					if want := cells[[2]Phase{p, q}] == "y"; Compatible(a, b) != want {
						t.Errorf("Compatible(%s, %s) = %v, want %v", a, b, !want, want)
					}
				}
			}
		}
	}
	if want := (8 + 2*4) * (8 + 2*4); pairs != want {
		t.Errorf("%d pairs, want %d", pairs, want)
	}
}

// TestCompatibleRoutesKeepReadsFresh derives from the behaviours, without the
// classes, what a compatible pair must not do.
func TestCompatibleRoutesKeepReadsFresh(t *testing.T) {
	t.Parallel()
	for _, p := range allPhases {
		for _, q := range allPhases {
			a, b := Route{Phase: p, Percent: 1}, Route{Phase: q, Percent: 1}
			if !Compatible(a, b) {
				continue
			}
			x, y := a.Behaviour(), b.Behaviour()
			if (x.Writes == WritesLegacy || x.Writes == WritesBackground) && b.ReadsTarget() {
				t.Errorf("%s acknowledges what only legacy has; %s reads the target", p, q)
			}
			if x.Writes == WritesTarget && (!b.ReadsTarget() || y.Fallback || y.Reads == ReadsSplit) {
				t.Errorf("%s acknowledges what only the target has; %s may read legacy", p, q)
			}
			if x.Writes == WritesTarget && y.Writes != WritesTarget && y.Writes != WritesWait {
				t.Errorf("%s and %s have two authorities", p, q)
			}
		}
	}
}

// TestBehaviours is the protocol's table of phases.
func TestBehaviours(t *testing.T) {
	t.Parallel()
	for phase, want := range map[Phase]Behaviour{
		Legacy:      {ReadsLegacy, false, false, WritesLegacy},
		ShadowWrite: {ReadsLegacy, false, false, WritesBackground},
		DualRead:    {ReadsLegacy, true, false, WritesBoth},
		Cutover:     {ReadsSplit, true, true, WritesBoth},
		Grace:       {ReadsTarget, true, true, WritesBoth},
		Fenced:      {ReadsTarget, false, false, WritesWait},
		Lifting:     {ReadsTarget, false, false, WritesWait},
		Returning:   {ReadsTarget, false, false, WritesWait},
		Retain:      {ReadsTarget, false, false, WritesTarget},
		Complete:    {ReadsTarget, false, false, WritesTarget},
	} {
		if got := (Route{Phase: phase}).Behaviour(); got != want {
			t.Errorf("%s: %+v, want %+v", phase, got, want)
		}
	}
}
