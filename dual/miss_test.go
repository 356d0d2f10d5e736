package dual

import (
	"errors"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/dual/telemetry"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
)

// readsTarget are the phases whose reads come from the target, and whether fenced legacy is
// asked about a miss there.
var readsTarget = map[phases.Phase]string{
	phases.Cutover: "legacy", phases.Grace: "legacy",
	phases.Fenced: "fenced", phases.Lifting: "fenced", phases.Returning: "fenced", phases.Retain: "fenced",
	phases.Complete: "target",
}

// A target that has neither the record nor a version of it does not answer "not found" by
// itself, where legacy can tell whether it was lost.
func TestAMissAsksLegacy(t *testing.T) {
	t.Parallel()
	tombstone := Versioned[int]{Version: record.MakeVersion(1, 1, 1)}
	for phase, who := range readsTarget {
		bubble(t, string(phase), func(t *testing.T) {
			get := func(corrupt func(p *testInstance)) (p *testInstance, v int, found bool, err error) {
				p = newTestInstance(t, newFleet(route(phase)), newTarget(), newLegacy(), adjust{idle: true})
				corrupt(p)
				v, found, err = p.reader.Get(t.Context(), 1)
				return p, v, found, err
			}
			p, v, found, err := get(func(p *testInstance) { p.legacy.values[1] = 7 })
			switch ok := err == nil && found && v == 7 && p.Stats().LegacyReads == 1; {
			case who == "legacy" && !ok, who == "fenced" && (!errors.Is(err, ErrTargetLost) || found || v != 0):
				t.Errorf("legacy has it: %d, %v, %v", v, found, err)
			case who == "target" && (err != nil || found || p.legacy.reads != 0):
				t.Errorf("legacy is gone, and was asked %d times: %v, %v", p.legacy.reads, found, err)
			}
			if p, _, found, err = get(func(*testInstance) {}); err != nil || found || (p.legacy.reads == 1) == (who == "target") {
				t.Errorf("both lack it: %v, %v, legacy was asked %d times", found, err, p.legacy.reads)
			}
			p, _, found, err = get(func(p *testInstance) { p.target.entries[1], p.legacy.values[1] = tombstone, 7 })
			if err != nil || found || p.legacy.reads != 0 {
				t.Errorf("deleted: %v, %v, legacy was asked %d times", found, err, p.legacy.reads)
			}
			_, _, found, err = get(func(p *testInstance) { p.legacy.broken = errDown })
			if who != "target" && (!errors.Is(err, errDown) || found) || who == "target" && err != nil {
				t.Errorf("legacy can't be asked: %v, %v", found, err)
			}
		})
	}
}

// The target's absence of a record is confirmed as a loss only past the time in which a write
// may end in the target or in the journal.
func TestALossIsConfirmedByASecondLook(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		meanwhile func(p *testInstance)
		want      telemetry.Outcome
	}{
		"lost":                     {func(*testInstance) {}, telemetry.LostWrite},
		"the write arrives":        {func(p *testInstance) { p.target.entries[1] = Versioned[int]{7, true, record.MakeVersion(1, 1, 1)} }, telemetry.Lagged},
		"legacy deletes it":        {func(p *testInstance) { delete(p.legacy.values, 1) }, telemetry.Lagged},
		"legacy has another state": {func(p *testInstance) { p.legacy.values[1] = 8 }, telemetry.Lagged},
		"a repair comes between": {func(p *testInstance) {
			p.target.afterGet = func() { // after the second look's first read
				p.target.do(func() { p.target.entries[1] = Versioned[int]{7, true, record.MakeVersion(1, 1, 1)} })
			}
		}, telemetry.Lagged},
		"its key is journaled": {func(p *testInstance) { p.fleet.journal["1"] = record.MakeVersion(1, 1, 1) }, telemetry.Lagged},
		"the journal is away":  {func(p *testInstance) { p.fleet.outage = errDown }, telemetry.Aborted},
		"the target is away":   {func(p *testInstance) { p.target.broken = errDown }, telemetry.Aborted},
	} {
		for phase, who := range readsTarget {
			if who == "target" {
				continue
			}
			bubble(t, name+" in "+string(phase), func(t *testing.T) {
				p := newTestInstance(t, newFleet(route(phase)), newTarget(), newLegacy(), adjust{idle: true})
				p.legacy.values[1] = 7
				_, _, _ = p.reader.Get(t.Context(), 1)
				tick(time.Second) // all rechecks, and not yet the second look
				if got := p.pinned.Load().observed.counts[missedComparisons+int(lostWriteConfirmed)].Load(); got != 0 {
					t.Fatal("confirmed before a write's deadline was over")
				}
				p.target.do(func() { p.legacy.mu.Lock(); defer p.legacy.mu.Unlock(); p.fleet.do(func() { c.meanwhile(p) }) })
				tick(2 * phases.WriteDeadline)
				for v, o := range verdicts {
					want := uint64(0)
					if o == c.want {
						want = 1
					}
					if got := p.pinned.Load().observed.counts[missedComparisons+v].Load(); got != want {
						t.Errorf("%s: %d, want %d", o, got, want)
					}
				}
				if lost := p.Stats().Lost; (lost == 1) != (c.want == telemetry.LostWrite) {
					t.Errorf("%d are counted as lost", lost)
				}
			})
		}
	}
}

// A write of retain that finds neither the record nor a version of it must not build the record
// from nothing: that would hide the loss for good.
func TestAWriteOfALostRecordIsRefused(t *testing.T) {
	t.Parallel()
	bubble(t, "", func(t *testing.T) {
		p := newTestInstance(t, newFleet(route(phases.Retain)), newTarget(), newLegacy(), adjust{})
		settle()
		p.legacy.values[1] = 7
		for name, write := range map[string]func() error{
			"update": func() error { return p.writer.Write(t.Context(), increment(1)) },
			"put":    func() error { return p.put(1, 8) },
			"delete": func() error { return p.writer.Delete(t.Context(), 1, p.legacy.put(1, 0)) },
		} {
			if err := write(); !errors.Is(err, ErrTargetLost) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if p.target.applies != 0 {
			t.Errorf("the target was written %d times", p.target.applies)
		}
		p.legacy.broken = errDown
		if err := p.put(1, 8); !errors.Is(err, errDown) {
			t.Errorf("legacy can't be asked: %v", err)
		}
		p.legacy.broken = nil
		p.mustPut(2, 9) // a new record
		if v, found := p.target.value(2); !found || v != 9 {
			t.Errorf("a new record: %d, %v", v, found)
		}
		reads := p.legacy.reads
		p.mustPut(2, 10)
		if p.legacy.reads != reads {
			t.Error("legacy was asked about a record that the target has")
		}
		_ = p.stop()
	})
	bubble(t, "complete", func(t *testing.T) {
		p := newTestInstance(t, newFleet(route(phases.Complete)), newTarget(), newLegacy(), adjust{})
		settle()
		p.legacy.values[1] = 7
		p.mustPut(1, 8)
		if p.legacy.reads != 0 {
			t.Error("legacy was asked in complete")
		}
		_ = p.stop()
	})
}
