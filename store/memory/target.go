// Package memory is a target that holds records in this process's memory, for an
// application's own tests: it keeps the contract of package store, as Redis and
// PostgreSQL do, without a server. It has the mandatory methods only, so code that runs
// on it uses the paths that every store has. Nothing outlives the process, and no
// other process sees it: it is no target for a migration of live data.
package memory

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// Target holds records in memory. It is safe for concurrent use, and each call takes
// effect at one moment. A tombstone stays for as long as the target, which is longer
// than any horizon. Records don't expire.
type Target struct {
	schema *record.Schema
	now    func() time.Time

	mu      sync.RWMutex
	entries map[record.Key]entry
}

var _ store.Target = (*Target)(nil)

// entry is what the target has under a key. A record is never changed in place.
type entry struct {
	version record.Version
	record  record.Record // nil: a tombstone
}

// New makes an empty target for records of the schema. now is its clock, which a
// write's NotAfter is compared with; nil: time.Now.
func New(schema *record.Schema, now func() time.Time) *Target {
	if now == nil {
		now = time.Now
	}
	return &Target{schema: schema, now: now, entries: map[record.Key]entry{}}
}

// Apply implements store.TargetRecords.
func (t *Target) Apply(ctx context.Context, writes []store.Write) ([]store.Result, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("write to the target in memory: %w", err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	results := make([]store.Result, len(writes))
	for i := range writes {
		results[i] = t.apply(&writes[i])
	}
	return results, nil
}

// apply decides in the order that every store has: time, condition, version.
func (t *Target) apply(w *store.Write) store.Result {
	if err := t.fits(w); err != nil {
		return store.Result{Err: fmt.Errorf("write %q to the target in memory: %w", string(w.Key), err)}
	}
	current := t.entries[w.Key].version
	refused := func(o store.Outcome) store.Result { return store.Result{Outcome: o, Version: current} }
	switch {
	case !w.NotAfter.IsZero() && t.now().After(w.NotAfter):
		return refused(store.Late)
	case w.Only != nil && *w.Only != current:
		return refused(store.Changed)
	case w.Only != nil && current.NewerThan(w.Version) && !w.Overwrite: // only a repair lowers a version
		return refused(store.Older)
	case w.Only == nil && !w.Version.NewerThan(current):
		return refused(store.Older)
	}
	e := entry{version: w.Version}
	if !w.Deleted {
		e.record = w.Record.Clone()
	}
	t.entries[w.Key] = e
	return store.Result{Outcome: store.Applied, Version: w.Version}
}

// fits refuses writes that no store could keep.
func (t *Target) fits(w *store.Write) error {
	if _, err := t.schema.CheckKey(w.Key); err != nil {
		return err
	}
	if !w.Deleted && len(w.Record) != len(t.schema.Fields) {
		return fmt.Errorf("the record has %d values, the schema %d fields", len(w.Record), len(t.schema.Fields))
	}
	return nil
}

// Get implements store.TargetRecords.
func (t *Target) Get(ctx context.Context, keys []record.Key) ([]store.Entry, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("read from the target in memory: %w", err)
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	entries := make([]store.Entry, len(keys))
	for i, key := range keys {
		entries[i] = t.entry(key)
	}
	return entries, nil
}

func (t *Target) entry(key record.Key) store.Entry {
	switch e, ok := t.entries[key]; {
	case !ok:
		return store.Entry{Key: key, Presence: store.Absent}
	case e.record == nil:
		return store.Entry{Key: key, Presence: store.Tombstone, Version: e.version}
	default:
		return store.Entry{Key: key, Presence: store.Live, Version: e.version, Record: slices.Clone(e.record)}
	}
}

// batch is how many entries Scan yields at a time.
const batch = 500

// Scan implements store.TargetRecords: it yields the keys that exist when it begins, in
// their order, each entry as it is when it is yielded. yield may use the target.
func (t *Target) Scan(ctx context.Context, yield func([]store.Entry) error) error {
	t.mu.RLock()
	keys := slices.Sorted(maps.Keys(t.entries))
	t.mu.RUnlock()
	for some := range slices.Chunk(keys, batch) {
		entries, err := t.Get(ctx, some)
		if err != nil {
			return err
		}
		if err := yield(entries); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// Now implements store.TargetRecords.
func (t *Target) Now(ctx context.Context) (time.Time, error) { return t.now(), ctx.Err() }

// Check implements store.Checker: it warns that the records are not durable.
func (t *Target) Check(ctx context.Context) ([]store.Check, error) {
	return []store.Check{{
		Name: "target: durability", Result: store.Warned,
		Detail: "records are in this process's memory, and are lost when it ends",
		Hint:   hint.Hint{Text: "use a durable target outside of tests"},
	}}, ctx.Err()
}

// Close implements store.Target. The records stay.
func (t *Target) Close() error { return nil }
