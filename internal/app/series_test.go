package app

import (
	"slices"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/phases"
)

// TestMeasureOfOneLimit: evaluations against a ceiling are seconds, those against a ratio are not, and no line has both.
func TestMeasureOfOneLimit(t *testing.T) {
	t.Parallel()
	s := phases.TriggerSettings{Latency: phases.LatencyTrigger{Ceiling: phases.Duration(250 * time.Millisecond)}}
	ratio, ceiling := phases.Evaluation{Bound: 1.2, Limit: 2}, phases.Evaluation{Bound: 0.3, Limit: 0.25}
	for _, c := range []struct {
		bounds []phases.Evaluation
		unit   Unit
		n      int
	}{
		{[]phases.Evaluation{ratio, ratio}, UnitTimes, 2},
		{[]phases.Evaluation{ratio, ceiling}, UnitSeconds, 1},
		{[]phases.Evaluation{ceiling, ratio, ceiling, ratio}, UnitTimes, 2},
	} {
		m := triggerMeasure(s, phases.TriggerLatency)
		m.Bounds = slices.Clone(c.bounds)
		m.ofOneLimit(s)
		if m.Unit != c.unit || len(m.Bounds) != c.n || m.Bounds[len(m.Bounds)-1].Limit != c.bounds[len(c.bounds)-1].Limit {
			t.Errorf("%+v: %s of %+v", c, m.Unit, m.Bounds)
		}
	}
	other := Measure{Kind: phases.TriggerKind, Name: phases.TriggerErrors, Unit: UnitShare, Bounds: []phases.Evaluation{ratio, ceiling}}
	if other.ofOneLimit(s); len(other.Bounds) != 2 || other.Unit != UnitShare {
		t.Errorf("another trigger: %+v", other)
	}
}
