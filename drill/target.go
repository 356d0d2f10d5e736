package drill

import (
	"context"
	"fmt"
	"time"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/record"
)

// value is a record with the version that the target has it at; zero from legacy.
type value struct {
	record  record.Record
	version record.Version
}

// target is the store as an instance of records' own keys sees it.
type target struct{ store record.Target }

func (t target) Get(ctx context.Context, key record.Key) (found dual.Versioned[value], err error) {
	entries, err := t.store.Get(ctx, []record.Key{key})
	if err != nil {
		return found, err
	}
	switch e := entries[0]; e.Presence {
	case record.Absent, record.Tombstone:
		return dual.Versioned[value]{Version: e.Version}, nil
	case record.Live:
		return dual.Versioned[value]{Value: value{e.Record, e.Version}, Found: true, Version: e.Version}, nil
	default:
		return found, fmt.Errorf("key %q: the target holds no record of the migration but %s", string(key), e.Presence)
	}
}

func (t target) Apply(ctx context.Context, c dual.Change[record.Key, value], o dual.ApplyOptions) (record.Result, error) {
	results, err := t.store.Apply(ctx, []record.Write{{
		Key: c.Key, Deleted: c.Deleted, Record: c.Value.record, Version: c.Version, NotAfter: o.NotAfter, Only: o.Only, Keep: o.Keep,
	}})
	if err != nil {
		return record.Result{}, err
	}
	return results[0], results[0].Err
}

func (t target) Now(ctx context.Context) (time.Time, error) { return t.store.Now(ctx) }

// Plant takes n live records out of the target, each at the version that it has, and
// returns their keys: as if their last write had been lost there.
func Plant(ctx context.Context, store record.Target, keys []record.Key, n int) ([]record.Key, error) {
	now, err := store.Now(ctx)
	if err != nil {
		return nil, err
	}
	entries, err := store.Get(ctx, keys)
	if err != nil {
		return nil, err
	}
	var planted []record.Key
	for _, e := range entries {
		if e.Presence != record.Live || len(planted) == n {
			continue
		}
		results, err := store.Apply(ctx, []record.Write{{
			Key: e.Key, Deleted: true, Version: e.Version, Only: &e.Version, NotAfter: now.Add(10 * time.Second),
		}})
		switch {
		case err != nil:
			return planted, err
		case results[0].Outcome == record.Applied:
			planted = append(planted, e.Key)
		}
	}
	return planted, nil
}
