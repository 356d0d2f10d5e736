package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/stranglerfig/migrator/internal/pgserver"
	"github.com/stranglerfig/migrator/store"
)

var (
	_ store.ServerChecker = (*Legacy)(nil)
	_ store.ServerChecker = (*Target)(nil)
)

// CheckServer implements store.ServerChecker.
func (l *Legacy) CheckServer(ctx context.Context) ([]store.Check, error) {
	var f findings
	for _, check := range []func() error{
		func() error { return f.checkServer(ctx, l.pool, "legacy") },
		func() error { return f.checkDurability(ctx, l.pool, "legacy") },
		func() error { return f.checkRoom(ctx, l.pool, "legacy") },
		func() error { return f.checkPolicies(ctx, l.pool, l.shape, "legacy") },
		func() error { return l.checkPrivileges(ctx, &f) },
		func() error { return l.checkStandbys(ctx, &f) },
		func() error { return l.checkPrepared(ctx, &f) },
	} {
		if err := check(); err != nil {
			return f, fmt.Errorf("check legacy's server: %w", err)
		}
	}
	return f, nil
}

// CheckServer implements store.ServerChecker.
func (t *Target) CheckServer(ctx context.Context) ([]store.Check, error) {
	var f findings
	for _, check := range []func() error{
		func() error { return f.checkServer(ctx, t.pool, "target") },
		func() error { return f.checkDurability(ctx, t.pool, "target") },
		func() error { return f.checkRoom(ctx, t.pool, "target") },
		func() error { return f.checkPolicies(ctx, t.pool, t.shape, "target") },
		func() error { return t.checkPrivileges(ctx, &f) },
	} {
		if err := check(); err != nil {
			return f, fmt.Errorf("check the target's server: %w", err)
		}
	}
	return f, nil
}

// checkRoom adds what every server runs out of.
func (f *findings) checkRoom(ctx context.Context, pool *pgxpool.Pool, side string) error {
	checks, err := pgserver.Check(ctx, pool)
	for _, c := range checks {
		c.Name = side + "-" + c.Name
		*f = append(*f, c)
	}
	return err
}
