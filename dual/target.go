package dual

import (
	"context"
	"time"

	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// Target is the store that records are moved into, in the application's own types.
// Methods are safe for concurrent use and must return when the context ends: an
// instance can't acknowledge a new route while one hangs.
type Target[K comparable, V any] interface {
	// Get reads one record. The Version of a record that is not Found is its
	// tombstone's, or zero.
	// [owned-only]: a value without version is an error, not a record. [primary-only].
	Get(ctx context.Context, key K) (Versioned[V], error)
	// Apply makes one change, atomically, as store.Target does. The error and the
	// Result's Err mean the same: it is unknown whether the target has the change.
	// [newer-only], [not-after]: both are checked in the step that writes, by the target's clock.
	Apply(ctx context.Context, c Change[K, V], o ApplyOptions) (store.Result, error)
	// Now reads the target's clock.
	Now(ctx context.Context) (time.Time, error)
}

// BatchTarget is a Target that takes several changes in one round trip. Results
// are in the order of the changes; the error is for a failure of all.
type BatchTarget[K comparable, V any] interface {
	ApplyAll(ctx context.Context, c []Change[K, V], o ApplyOptions) ([]store.Result, error)
}

// Versioned is the target's answer for one key.
type Versioned[V any] struct {
	Value   V
	Found   bool
	Version record.Version
}

// missed reports whether the target has neither the record nor a version of it. That is no
// deletion: a deleted record leaves its version.
func (v *Versioned[V]) missed() bool { return !v.Found && v.Version.IsZero() }

// Change is one record's new state, all of it, with the version that the write gave it.
type Change[K comparable, V any] struct {
	Key     K
	Value   V // not used if Deleted
	Deleted bool
	Version record.Version
}

// ApplyOptions are a change's conditions; see store.Write.
type ApplyOptions struct {
	NotAfter  time.Time       // target's clock
	IfVersion *record.Version // the target's version must be exactly this one
	Keep      bool            // a deleted record's version stays for good
}
