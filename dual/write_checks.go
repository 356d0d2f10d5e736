package dual

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/record"
)

// ErrChanges is returned by writes of an instance with Config.Strict whose closure returned
// other changes than its Keys announce. Both stores have been written all the same.
var ErrChanges = errors.New("the legacy form of the write changed other records than its Keys")

// checkChanges compares what a write's closure returned with the keys of its second form. A
// difference is a bug of the application that no store shows: a key outside Keys is not written
// from retain on; a missing change is missing in the target now.
func (w *Writer[K, V]) checkChanges(o *operation[K, V], changes []Change[K, V]) error {
	if len(o.keys) == 0 {
		return nil // one record, or a write without a second form
	}
	outside, missing := 0, 0
	if len(o.keys) == 1 && len(changes) == 1 { // most writes: nothing is allocated
		if o.keys[0] != changes[0].Key {
			outside, missing = 1, 1
		}
	} else {
		changed := make(map[K]bool, len(changes))
		for n := range changes {
			changed[changes[n].Key] = true
		}
		for _, k := range o.keys {
			if !changed[k] {
				missing++
			}
			delete(changed, k)
		}
		outside = len(changed)
	}
	if o.fewer {
		missing = 0
	}
	if outside == 0 && missing == 0 {
		return nil
	}
	i := w.i
	i.count.outsideKeys.Add(uint64(outside))
	i.count.missingKeys.Add(uint64(missing))
	if i.checksLogged.allow() {
		i.log.Error("a write changed other records than its Keys", "outside_keys", outside, "missing_keys", missing, "keys", len(o.keys), "changes", len(changes),
			"hint", Hint{Text: "return a change for every record that legacy's statements changed and name all of them in Op.Keys; set Op.Fewer where a write may change fewer"})
	}
	if !i.set.Strict {
		return nil
	}
	return fmt.Errorf("%w: %d changes are outside its %d Keys, %d of the Keys have no change", ErrChanges, outside, len(o.keys), missing)
}

// oncePerMinute limits a log line that every write could cause.
type oncePerMinute struct{ last atomic.Int64 }

func (o *oncePerMinute) allow() bool {
	now := time.Now().UnixNano()
	last := o.last.Load()
	return (last == 0 || now-last >= int64(time.Minute)) && o.last.CompareAndSwap(last, now)
}

// The read-back of writes: at most one at a time, and then a pause, since it locks legacy's row.
const (
	readBackPause  = 100 * time.Millisecond
	readBackQueue  = 16
	readBackTries  = 4 // while the record may still be changing
	readBackWithin = 10 * time.Second
)

// sampleReadBack queues a write's changes to be compared with legacy's rows. A full queue
// drops them: it is a sample.
func (w *Writer[K, V]) sampleReadBack(changes []Change[K, V]) {
	if !w.readBacks || len(changes) == 0 {
		return
	}
	c := changes[len(changes)-1] // of several states of one record the last one counts
	select {
	case w.i.checks <- func(ctx context.Context) { w.checkRow(ctx, c) }:
	default:
	}
}

// checkRow compares what the closure returned with the row that legacy has, under the row's
// lock. It is a verdict only while the target still has this very version: then no Writer has
// written the record since. A writer that has committed in legacy and not yet
// in the target looks like a difference, so one is looked at again.
func (w *Writer[K, V]) checkRow(ctx context.Context, c Change[K, V]) {
	ctx, cancel := context.WithTimeout(ctx, readBackWithin)
	defer cancel()
	i := w.i
	judged := false
	defer func() {
		if !judged {
			i.count.readBacksUndecided.Add(1)
		}
	}()
	var found []record.Difference
	for try := range readBackTries {
		if try > 0 && !pause(ctx, readBackPause<<try) {
			return
		}
		found = nil
		entry, err := w.target.Get(ctx, c.Key)
		switch {
		case err != nil, entry.Version.NewerThan(c.Version):
			return // no answer, or a later write: this sample proves nothing
		case entry.Version != c.Version:
			continue // a background write, which the target does not have yet
		}
		row, err := w.locked(ctx, c.Key)
		if err != nil { // a role without the right to lock the row would never read one back
			if ctx.Err() == nil && i.readBackLogged.allow() {
				i.log.Warn("a write could not be read back from legacy", "error", err, hint.Attr(err))
			}
			return
		}
		switch {
		case row.Found != !c.Deleted:
			found = []record.Difference{{Class: record.DifferentType}}
		case row.Found:
			found = w.compare(row.Value, c.Value)
		}
		if len(found) == 0 {
			judged = true
			i.count.readBacks.Add(1)
			return
		}
	}
	entry, err := w.target.Get(ctx, c.Key)
	if len(found) == 0 || err != nil || entry.Version != c.Version {
		return
	}
	judged = true
	i.count.readBacks.Add(1)
	i.count.readBackDifferences.Add(1)
	fields := make([]string, 0, len(found))
	for _, d := range found {
		fields = append(fields, d.Path)
	}
	i.log.Error("legacy has another row than the write returned", "key", string(w.key(c.Key)), "deleted", c.Deleted, "fields", fields,
		"hint", Hint{Text: "return the row as the write's last statement left it (RETURNING), check COMMIT's error, and look for triggers and for writers that bypass the Writer"})
}

// checkWrites makes sampled read-backs until ctx ends.
func (i *Instance) checkWrites(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case check := <-i.checks:
			check(ctx)
		}
		if !pause(ctx, readBackPause) {
			return
		}
	}
}
