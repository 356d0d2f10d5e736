// Package statetest gives tests databases that have the state's schema already.
package statetest

import (
	"context"
	"testing"

	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/test/testenv"
)

// URL returns the URL of a database for this test alone, as migrator init leaves it. It is a
// copy: to install the schema takes ten times as long.
func URL(t testing.TB) string {
	t.Helper()
	return testenv.PostgresURLFrom(t, "state", func(ctx context.Context, url string) error {
		_, _, err := state.Migrate(ctx, url)
		return err
	})
}

// OlderURL is URL, with the oldest schema that a rollback must work with.
func OlderURL(t testing.TB) string {
	t.Helper()
	return testenv.PostgresURLFrom(t, "older state", func(ctx context.Context, url string) error {
		_, _, err := state.MigrateTo(ctx, url, state.RollbackFrom)
		return err
	})
}
