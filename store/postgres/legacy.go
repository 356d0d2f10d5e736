package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// Legacy is a PostgreSQL table as a legacy store. It is safe for concurrent use.
type Legacy struct {
	pool    *pgxpool.Pool
	shape   *shape
	name    string // the migration's
	version string // the version column, or ""
	config  *migration.Config
	// standbys are those that the fence waits for; nil: those that the server's settings expect.
	standbys []string
}

var (
	_ store.Legacy       = (*Legacy)(nil)
	_ store.Toucher      = (*Legacy)(nil)
	_ store.LoadReporter = (*Legacy)(nil)
	_ store.ChunkLocator = (*Legacy)(nil)
)

// maxName keeps the name of the era's sequence within PostgreSQL's 63 bytes: a
// longer one would be truncated, and two migrations could share an era.
const maxName = 63 - len(eraPrefix)

// OpenLegacy connects, reads the table's shape and, where migrator's schema is
// installed, checks that the server is the same as before (see [Legacy.CheckSystem]).
// Close closes the pool.
func OpenLegacy(ctx context.Context, m *migration.Config, url string) (*Legacy, error) {
	if m.Name == "" || len(m.Name) > maxName {
		return nil, fmt.Errorf("the migration's name must have 1 to %d bytes", maxName)
	}
	pool, err := connect(ctx, "legacy", url)
	if err != nil {
		return nil, err
	}
	l := &Legacy{pool: pool, name: m.Name, version: legacyConfig(m).VersionColumn, standbys: legacyConfig(m).Standbys}
	if err := l.open(ctx, m); err != nil {
		pool.Close()
		return nil, err
	}
	return l, nil
}

func (l *Legacy) open(ctx context.Context, m *migration.Config) error {
	t, err := describe(ctx, l.pool, "legacy", legacyConfig(m).Table)
	if err != nil {
		return err
	}
	l.config = m
	if m.Schema != nil {
		// [columns-applied]: the columns of the day were not chosen.
		l.shape = appliedShape(t, m.Schema, legacyName)
	} else if l.shape, err = legacyShape(m, t); err != nil {
		return err
	}
	if err := l.upgrade(ctx); err != nil {
		return fmt.Errorf("upgrade migrator's schema in the legacy database: %w", err)
	}
	err = l.CheckSystem(ctx)
	if errors.Is(err, errNotInstalled) {
		return nil
	}
	return err
}

// Close ends the connections, once those in use have been returned.
func (l *Legacy) Close() { l.pool.Close() }

// Pool is the store's pool, with the session settings on which its texts depend.
func (l *Legacy) Pool() *pgxpool.Pool { return l.pool }

// Schema implements store.Legacy.
func (l *Legacy) Schema() *record.Schema { return l.shape.schema }

// Lookup implements store.Legacy. It reads without a lock, so versions are zero.
func (l *Legacy) Lookup(ctx context.Context, keys []record.Key) ([]store.Row, error) {
	rows := unfound(keys)
	err := l.shape.inBatches(ctx, l.pool, keys, func(at []int) error {
		return l.shape.lookup(ctx, l.pool, rows, keys, at)
	})
	if err != nil {
		return nil, fmt.Errorf("look up %d keys in legacy table %s: %w", len(keys), l.table(), withoutValue(err))
	}
	return rows, nil
}

// table is the table's name in messages.
func (l *Legacy) table() string { return showTable(l.shape.name) }
