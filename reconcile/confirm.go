package reconcile

import (
	"context"
	"fmt"
	"time"

	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// confirm classifies differences that are certain, counts them, and keeps them or
// holds them until they are repaired.
// Evidence without a difference must be of an entry that seems to be ahead.
func (r *work) confirm(ctx context.Context, sure []evidence) error {
	if len(sure) == 0 {
		return nil
	}
	locked := make([]store.Row, len(sure))
	if r.Locker != nil {
		keys := make([]record.Key, len(sure))
		for i := range sure {
			keys[i] = sure[i].entry.Key
		}
		var err error
		if locked, err = r.locked(ctx, keys); err != nil {
			return err
		}
	}
	journal, err := r.journalled(ctx)
	if err != nil {
		return err
	}
	var found []*Finding
	for i, l := range sure {
		if r.Locker != nil && l.entry.Version.Era() > l.era {
			continue // legacy has been retired since it said this: the target is the authority
		}
		if f := r.classify(l, locked[i], journal[l.entry.Key]); f != nil {
			f.Key, f.At = l.entry.Key, time.Now().UTC()
			found = append(found, f)
		}
	}
	if err := r.markLost(ctx, found, sure, journal); err != nil {
		return err
	}
	r.mu.Lock()
	for _, f := range found {
		r.counted(f)
		r.confirmed[r.hash(string(f.Key))] = struct{}{}
		r.hold(f)
	}
	r.mu.Unlock()
	r.report()
	return nil
}

// classify makes the finding; nil when the target is right. locked was read after
// the evidence, and is empty where legacy's rows can't be locked.
func (r *work) classify(l evidence, locked store.Row, lost record.Version) *Finding {
	f := r.describe(l.row, l.entry, l.now)
	ahead := r.isAhead(locked, l.entry.Version)
	switch {
	case f == nil && ahead:
		return &Finding{Class: Ahead, Version: l.entry.Version, Detail: "the fields agree; legacy is at " + locked.Version.String()}
	case f == nil || f.Class != FieldDiff:
	case ahead:
		f.Class = Ahead
	case lost.Max(l.row.Version).Max(r.Barrier).NewerThan(l.entry.Version):
		f.Class = Stale
	}
	return f
}

// counted wants the mutex.
func (r *work) counted(f *Finding) {
	r.run.Differences++
	r.run.Classes[f.Class]++
}

// keep keeps a counted finding if there is room, and returns its place among the
// kept ones, or -1. Half of the room is for whoever comes first, of the other half
// each class has its part: ten thousand missing records must not hide the one that
// is of another type. It wants the mutex.
func (r *work) keep(f Finding) int {
	own := r.Findings / 2 / len(meanings)
	switch {
	case r.kept[f.Class] < own:
	case r.common < r.Findings-own*len(meanings):
		r.common++
	default:
		return -1
	}
	r.kept[f.Class]++
	r.findings = append(r.findings, f)
	r.unsaved = append(r.unsaved, f)
	return len(r.findings) - 1
}

// stray counts what the target has under a name that no key leads to.
func (r *work) stray(e *store.Entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	at := r.hash(e.RawKey)
	if _, known := r.strays[at]; known {
		return
	}
	r.strays[at] = struct{}{}
	f := Finding{RawKey: e.RawKey, Class: ForeignClass, Version: e.Version, Detail: e.Detail, At: time.Now().UTC()}
	if e.Presence == store.WrongType {
		f.Class = Type
	}
	if r.run.Repair {
		f.Repair = "left alone: no record has this key; delete it, or narrow the key's template"
	}
	r.counted(&f)
	r.keep(f)
}

// journalLimit bounds the journalled keys that a run without repair looks at to
// tell what is stale.
const journalLimit = 100_000

// journalled reads the lost versions of the keys known to be behind.
func (r *work) journalled(ctx context.Context) (map[record.Key]record.Version, error) {
	lost := map[record.Key]record.Version{}
	after := record.Key("")
	for len(lost) < journalLimit {
		page, err := r.Ledger.Journal(ctx, after, journalPage)
		if err != nil {
			return nil, fmt.Errorf("read the journal: %w", err)
		}
		for _, j := range page {
			lost[j.Key], after = j.Version, j.Key
		}
		if len(page) < journalPage {
			break
		}
	}
	return lost, nil
}
