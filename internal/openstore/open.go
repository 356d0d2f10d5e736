// Package stores opens the stores that a migration's description names. A new
// store is one package beside this file, and one line in one switch.
package openstore

import (
	"context"
	"fmt"

	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
	"github.com/stranglerfig/migrator/store/postgres"
	"github.com/stranglerfig/migrator/store/redis"
)

// Legacy is all that a legacy store can do.
type Legacy interface {
	store.Legacy
	store.Locker
	store.Barrier
	store.Fence
	store.Checker
	// Install prepares legacy for versions and the fence; it changes nothing the second time.
	Install(ctx context.Context) error
	Close()
}

// Target is all that a target store can do.
type Target interface {
	store.Target
	store.Checker
	Close() error
}

var (
	_ Legacy = (*postgres.Legacy)(nil)
	_ Target = (*redis.Target)(nil)
	_ Target = (*postgres.Target)(nil)
)

// Preparer is a target that must be prepared before the first write.
type Preparer interface {
	Prepare(ctx context.Context) error
}

// OpenLegacy connects to the legacy store and reads the records' shape.
func OpenLegacy(ctx context.Context, m *migration.Config) (Legacy, error) {
	switch m.Legacy.Store {
	case "postgres":
		return opened[Legacy](postgres.OpenLegacy(ctx, m, m.Legacy.URL))
	default:
		return nil, fmt.Errorf("legacy.store %q: there is no such store; want postgres", m.Legacy.Store)
	}
}

// OpenTarget connects to the target store. The schema is the legacy store's.
func OpenTarget(ctx context.Context, m *migration.Config, schema *record.Schema) (Target, error) {
	switch m.Target.Store {
	case "redis":
		return opened[Target](redis.Open(ctx, m, m.Target.URL, schema))
	case "postgres":
		return opened[Target](postgres.OpenTarget(ctx, m, m.Target.URL, schema))
	default:
		return nil, fmt.Errorf("target.store %q: there is no such store; want redis or postgres", m.Target.Store)
	}
}

// opened keeps a nil pointer from becoming a store that is not nil: callers close
// whatever is not.
func opened[S any, P any](store *P, err error) (S, error) {
	if err != nil {
		var none S
		return none, err
	}
	return any(store).(S), nil
}
