// Package openstore opens the stores that a migration's description names. A new
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

// OpenLegacy connects to the legacy store and reads the records' shape.
func OpenLegacy(ctx context.Context, m *migration.Config) (store.Legacy, error) {
	switch m.Legacy.Store {
	case "postgres":
		return opened[store.Legacy](postgres.OpenLegacy(ctx, m, m.Legacy.URL))
	default:
		return nil, fmt.Errorf("legacy.store %q: there is no such store; want postgres", m.Legacy.Store)
	}
}

// OpenTarget connects to the target store. The schema is the legacy store's.
func OpenTarget(ctx context.Context, m *migration.Config, schema *record.Schema) (store.Target, error) {
	switch m.Target.Store {
	case "redis":
		return opened[store.Target](redis.Open(ctx, m, m.Target.URL, schema))
	case "postgres":
		return opened[store.Target](postgres.OpenTarget(ctx, m, m.Target.URL, schema))
	default:
		return nil, fmt.Errorf("target.store %q: there is no such store; want redis or postgres", m.Target.Store)
	}
}

// opened keeps a nil pointer from becoming a store that is not nil: callers close
// whatever is not.
func opened[S any, P any](p *P, err error) (S, error) {
	if err != nil {
		var none S
		return none, err
	}
	return any(p).(S), nil
}
