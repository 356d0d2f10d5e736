package drill

import (
	"context"
	"fmt"
	"time"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// value is a record with its version in the target; zero for one from legacy.
type value struct {
	record  record.Record
	version record.Version
}

// target adapts the target store to the keys of records.
type target struct{ store store.TargetRecords }

func (t target) Get(ctx context.Context, key record.Key) (found dual.Versioned[value], err error) {
	entries, err := t.store.Get(ctx, []record.Key{key})
	if err != nil {
		return found, err
	}
	switch e := entries[0]; e.Presence {
	case store.Absent, store.Tombstone:
		return dual.Versioned[value]{Version: e.Version}, nil
	case store.Live:
		return dual.Versioned[value]{Value: value{e.Record, e.Version}, Found: true, Version: e.Version}, nil
	default:
		return found, fmt.Errorf("key %q: the target has no record of the migration but %s", string(key), e.Presence)
	}
}

func (t target) Apply(ctx context.Context, c dual.Change[record.Key, value], o dual.ApplyOptions) (store.Result, error) {
	results, err := t.store.Apply(ctx, []store.Write{{
		Key: c.Key, Deleted: c.Deleted, Record: c.Value.record, Version: c.Version, NotAfter: o.NotAfter, Only: o.IfVersion, Keep: o.Keep,
	}})
	if err != nil {
		return store.Result{}, err
	}
	return results[0], results[0].Err
}

func (t target) Now(ctx context.Context) (time.Time, error) { return t.store.Now(ctx) }

// Planted removes records from a target, as if their last write had been lost there.
type Planted struct {
	Store store.TargetRecords
	Keys  []record.Key // candidates, of which it removes existing ones
	Most  int

	versions map[record.Key]record.Version
}

// Plant removes records, each only at the version that was read, and returns their keys.
func (p *Planted) Plant(ctx context.Context) (keys []record.Key, err error) {
	now, err := p.Store.Now(ctx)
	if err != nil {
		return nil, err
	}
	entries, err := p.Store.Get(ctx, p.Keys)
	if err != nil {
		return nil, err
	}
	p.versions = map[record.Key]record.Version{}
	for _, e := range entries {
		if e.Presence != store.Live || len(keys) == p.Most {
			continue
		}
		results, err := p.Store.Apply(ctx, []store.Write{{
			Key: e.Key, Deleted: true, Version: e.Version, Only: &e.Version, NotAfter: now.Add(10 * time.Second),
		}})
		switch {
		case err != nil:
			return keys, err
		case results[0].Outcome == store.Applied:
			keys, p.versions[e.Key] = append(keys, e.Key), e.Version
		}
	}
	return keys, nil
}

// Rewritten returns those of the keys that were written after their removal.
func (p *Planted) Rewritten(ctx context.Context, keys []record.Key) (rewritten []record.Key, err error) {
	entries, err := p.Store.Get(ctx, keys)
	for _, e := range entries {
		if e.Version.NewerThan(p.versions[e.Key]) {
			rewritten = append(rewritten, e.Key)
		}
	}
	return rewritten, err
}
