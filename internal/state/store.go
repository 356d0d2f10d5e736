package state

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/stranglerfig/migrator/internal/pgfail"
	"github.com/stranglerfig/migrator/internal/statedb"
	"github.com/stranglerfig/migrator/phases"
)

// Store is the state of all migrations, for operators' commands and the daemon.
// Applications use a Fleet.
type Store struct {
	pool     *pgxpool.Pool
	took     time.Duration
	standby  bool
	readOnly bool // by its setting
	schema   int64
	leaders  leaders
}

// Open connects to the state database. ErrNoSchema, ErrOlder or ErrNewer when its
// schema is not the one that this binary works with.
func Open(ctx context.Context, url string) (*Store, error) {
	return open(ctx, url, binaryVersion())
}

// OpenToRollBack is Open for who rolls back: a schema of [RollbackFrom] or later is enough.
func OpenToRollBack(ctx context.Context, url string) (*Store, error) {
	return open(ctx, url, RollbackFrom)
}

func open(ctx context.Context, url string, oldest int64) (*Store, error) {
	cfg, err := statedb.ParseURL(url)
	if err != nil {
		return nil, err
	}
	cfg.ConnConfig.Tracer = statedb.StatementTimeout{Within: phases.StatementWithin}
	began := time.Now()
	pool, err := statedb.Connect(ctx, cfg)
	if err != nil {
		return nil, err
	}
	s := &Store{pool: pool}
	if s.schema, err = checkVersion(ctx, pool, oldest); err != nil {
		pool.Close()
		if errors.Is(err, statedb.ErrNoSchema) {
			err = fmt.Errorf("%s (another database than the one that was prepared?): %w", pgfail.Address(cfg.ConnConfig), err)
		}
		return nil, err
	}
	err = pool.QueryRow(ctx, `SELECT pg_is_in_recovery(), current_setting('default_transaction_read_only')::bool`).Scan(&s.standby, &s.readOnly)
	if err != nil {
		pool.Close()
		return nil, statedb.Explain(err)
	}
	s.took = time.Since(began)
	return s, nil
}

// HealthWarning warns an operator about the state database as a whole: it answers slowly,
// is a standby, or has an older schema. "" if there is nothing to report.
func (s *Store) HealthWarning() string {
	switch {
	case s.schema < binaryVersion():
		return fmt.Sprintf("the state database's schema has version %d, this binary is made for %d: until its owner upgrades it, this binary only rolls back", s.schema, binaryVersion())
	case s.standby:
		return "the state database is a read-only standby: its data may be stale, and it accepts no changes"
	case s.readOnly:
		return "the state database is set read-only (default_transaction_read_only): it accepts no changes"
	case s.took > statedb.SlowFrom:
		return fmt.Sprintf("the state database is slow: connecting and three short queries took %s", s.took.Round(10*time.Millisecond))
	}
	return ""
}

// Close waits for connections in use and closes all.
func (s *Store) Close() { s.pool.Close() }

// Pool is the store's connections, for a Fleet in the same process.
func (s *Store) Pool() *pgxpool.Pool { return s.pool }

// Status returns one migration's status. The error that wraps ErrUnknownMigration lists the
// existing ones.
func (s *Store) Status(ctx context.Context, migration string) (phases.Status, error) {
	return statedb.ReadStatus(ctx, s.pool, migration)
}

// List returns the status of all migrations, by name.
func (s *Store) List(ctx context.Context) ([]phases.Status, error) {
	rows, err := s.pool.Query(ctx, statedb.StatusSQL+` ORDER BY m.name`)
	if err != nil {
		return nil, statedb.Explain(err)
	}
	all, err := pgx.CollectRows(rows, statedb.ScanStatus)
	return all, statedb.Explain(err)
}

// Epoch is one route that a migration was on.
type Epoch struct {
	Route   phases.Route `json:"route"`
	Began   time.Time    `json:"began"`
	Settled time.Time    `json:"settled,omitzero"` // when the last instance acknowledged it; zero: not before the next epoch
}

// Epochs returns up to limit routes of the migration, newest first.
func (s *Store) Epochs(ctx context.Context, migration string, limit int) ([]Epoch, error) {
	rows, err := s.pool.Query(ctx, `SELECT phase, percent, epoch, began_at, settled_at FROM migrator.epochs
		WHERE migration = $1 ORDER BY epoch DESC LIMIT $2`, migration, limit)
	if err != nil {
		return nil, statedb.Explain(err)
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (e Epoch, err error) {
		var settled *time.Time
		err = row.Scan(&e.Route.Phase, &e.Route.Percent, &e.Route.Epoch, &e.Began, &settled)
		e.Settled = statedb.OrZero(settled)
		return e, err
	})
}

// Away reports whether an error means that the state database is not there for a moment, as during a restart or
// a failover.
func Away(err error) bool { return statedb.Away(err) }
