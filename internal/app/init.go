package app

import (
	"context"

	"github.com/stranglerfig/migrator/internal/failpoint"
	"github.com/stranglerfig/migrator/internal/state"
)

// Init creates or upgrades the state database's schema, and returns both versions. It grants
// roles their privileges, which must be repeated after an upgrade.
func Init(ctx context.Context, url string, grants []state.Grant) (from, to int64, err error) {
	if from, to, err = state.Migrate(ctx, url); err != nil {
		return from, to, err
	}
	failpoint.Here("init.migrated")
	if len(grants) == 0 || state.IsDryRun(ctx) && from != to { // a grant needs the schema
		return from, to, nil
	}
	store, err := state.Open(ctx, url)
	if err != nil {
		return from, to, err
	}
	defer store.Close()
	for _, g := range grants {
		if err := store.Grant(ctx, g); err != nil {
			return from, to, err
		}
	}
	return from, to, nil
}
