package dual

import (
	"context"
	"fmt"
	"time"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// Codec converts an application's key and value to the migration's and back. Its
// functions are called from many goroutines at once.
type Codec[K comparable, V any] struct {
	// Key must give the key that legacy's columns give: record.MakeKey of their
	// canonical texts. Another text would be another record in the target.
	Key func(K) record.Key
	// Encode returns the whole record, its values in the schema's order.
	Encode func(V) (record.Record, error)
	// Decode must not retain the record, only its texts.
	Decode func(record.Record) (V, error)
}

// Bind makes a store the target of an application's own types. What it returns is
// a dual.BatchTarget too.
func Bind[K comparable, V any](target store.TargetRecords, codec Codec[K, V]) Target[K, V] {
	return bound[K, V]{target, codec}
}

type bound[K comparable, V any] struct {
	target store.TargetRecords
	codec  Codec[K, V]
}

// Get fails if the key has a value that is not a record of the migration: a caller must
// not take that for "not found".
func (b bound[K, V]) Get(ctx context.Context, key K) (found Versioned[V], err error) {
	k := b.codec.Key(key)
	entries, err := b.target.Get(ctx, []record.Key{k})
	if err != nil {
		return found, err
	}
	if len(entries) != 1 {
		return found, fmt.Errorf("key %q: the target answered for %d keys, not for one", string(k), len(entries))
	}
	e := entries[0]
	switch e.Presence {
	case store.Absent, store.Tombstone:
		return Versioned[V]{Version: e.Version}, nil
	case store.Live:
		value, err := b.codec.Decode(e.Record)
		if err != nil {
			return found, fmt.Errorf("key %q: decode the target's record: %w", string(k), err)
		}
		return Versioned[V]{Value: value, Found: true, Version: e.Version}, nil
	default:
		// [owned-only]: an error, so that cutover and grace fall back to legacy.
		detail := ""
		if e.Detail != "" {
			detail = " (" + e.Detail + ")"
		}
		return found, hint.Errorf(hint.Hint{Do: hint.ReconcileRepair}, "key %q: the target has no record of the migration but %s%s", string(k), e.Presence, detail)
	}
}

func (b bound[K, V]) Apply(ctx context.Context, c Change[K, V], o ApplyOptions) (store.Result, error) {
	results, err := b.ApplyAll(ctx, []Change[K, V]{c}, o)
	if err != nil {
		return store.Result{}, err
	}
	return results[0], results[0].Err
}

// ApplyAll sends the changes that can be encoded. The error of one that can't is in its
// own result: it must not fail the others.
func (b bound[K, V]) ApplyAll(ctx context.Context, changes []Change[K, V], o ApplyOptions) ([]store.Result, error) {
	results := make([]store.Result, len(changes))
	writes := make([]store.Write, 0, len(changes))
	at := make([]int, 0, len(changes))
	for i, c := range changes {
		w := store.Write{
			Key: b.codec.Key(c.Key), Deleted: c.Deleted, Version: c.Version,
			NotAfter: o.NotAfter, Only: o.IfVersion, Keep: o.Keep,
		}
		if !c.Deleted {
			encoded, err := b.codec.Encode(c.Value)
			if err != nil {
				results[i].Err = fmt.Errorf("encode the record: %w: %w", store.ErrRecord, err)
				continue
			}
			w.Record = encoded
		}
		writes, at = append(writes, w), append(at, i)
	}
	if len(writes) == 0 {
		return results, nil
	}
	applied, err := b.target.Apply(ctx, writes)
	if err != nil {
		return nil, err
	}
	if len(applied) != len(writes) {
		return nil, fmt.Errorf("the target answered for %d writes, not for %d", len(applied), len(writes))
	}
	for n, i := range at {
		results[i] = applied[n]
	}
	return results, nil
}

func (b bound[K, V]) Now(ctx context.Context) (time.Time, error) { return b.target.Now(ctx) }
