package repair

import (
	"context"
	"fmt"
	"time"

	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// Step is what a repair would do to a key.
type Step string

// Steps. A repair reads both stores again, and may then take another step.
const (
	StepWrite     Step = "write"     // legacy's state, at the version that its locked row gives
	StepLower     Step = "take back" // the same, over a version that is ahead of every version of legacy
	StepTombstone Step = "tombstone" // legacy has no such record: its version stays, the record goes
	StepNone      Step = "nothing"   // legacy has no such record, and the target neither
	StepLeave     Step = "leave"     // the target's entry was written after legacy was fenced
	StepEqual     Step = "equal key" // legacy has the record under a key that it takes as equal: it stays
	StepForeign   Step = "foreign"   // legacy has no such record, and the target's value is another program's: it stays
)

var stepWords = [...]Step{stepNone: StepNone, stepLeave: StepLeave, stepEqual: StepEqual, stepForeign: StepForeign, stepWrite: StepWrite, stepExact: StepWrite, stepLower: StepLower, stepTombstone: StepTombstone}

// Planned is what a repair of a key would do in the present state of both stores.
type Planned struct {
	Key  record.Key
	Step Step
	Has  store.Presence // what the target has
	From record.Version // the target's version
	To   record.Version // the version that it would have; of a write, one a little newer than this
}

// Plan decides for each item as Repair does, and does nothing. Like Repair it
// reads legacy's rows under their locks, a batch at a time.
func (f *Repairer) Plan(ctx context.Context, items []Item) ([]Planned, error) {
	d := f.defaults()
	plans := make([]Planned, 0, len(items))
	for from := 0; from < len(items); from += d.Batch {
		batch := items[from:min(from+d.Batch, len(items))]
		keys := make([]record.Key, len(batch))
		for i := range batch {
			keys[i] = batch[i].Key
		}
		s, err := d.Observe(ctx, keys)
		if err != nil {
			return plans, err
		}
		for i := range batch {
			plans = append(plans, s.Plan(i, batch[i].Journaled))
		}
	}
	return plans, nil
}

// Observation is one read of both stores, in the order that the rule rests on: the era,
// the target's clock, the target's entries, then legacy's rows under their locks.
type Observation struct {
	Era uint32
	// Fenced: a fence stood on legacy, and Era is the one before it.
	Fenced bool
	Now    time.Time // the target's
	Seen   []store.Entry
	Rows   []store.Row
}

// Observe reads the keys in both stores.
func (f *Repairer) Observe(ctx context.Context, keys []record.Key) (s Observation, err error) {
	// [repair-era]: first: a fence that is raised after this gives later eras, which are then left
	// alone.
	if s.Era, s.Fenced, err = Era(ctx, f.Locker); err != nil {
		return s, err
	}
	// [not-after]: before the reads, so that the time is counted from no later than them.
	if s.Now, err = f.Target.Now(ctx); err != nil {
		return s, fmt.Errorf("read the target's clock: %w", err)
	}
	// [repair-target-first]: a record that is inserted after this read is found in legacy, or
	// refuses the tombstone.
	if s.Seen, err = f.Target.Get(ctx, keys); err != nil {
		return s, fmt.Errorf("read the target: %w", err)
	}
	// [repair-row-lock]: what is read without it may be older than the version that it gets.
	if s.Rows, err = f.Locker.LookupLocked(ctx, keys); err != nil {
		return s, fmt.Errorf("read legacy under lock: %w", err)
	}
	return s, nil
}

// Plan is what a repair would do to the nth key. lost is the highest version in the
// journal that the target lacks (zero: none).
func (s *Observation) Plan(n int, journaled record.Version) Planned {
	w, what := s.decide(n, journaled, 0)
	p := Planned{Key: s.Seen[n].Key, Step: stepWords[what], Has: s.Seen[n].Presence, From: s.Seen[n].Version, To: w.Version}
	if w.Version.IsZero() { // nothing is written
		p.To = p.From
	}
	return p
}

func (s *Observation) decide(n int, journaled record.Version, notAfter time.Duration) (store.Write, step) {
	return decide(s.Rows[n], s.Seen[n], journaled, s.Era, s.Now.Add(notAfter))
}
