package postgres

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/stranglerfig/migrator/internal/failpoint"
	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/pgfail"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// Target is a PostgreSQL table as a target. It is safe for concurrent use.
//
// The table has the user's columns only. The versions are in a second table,
// migrator_target."<migration>". A row of it is locked before the record is read or
// written, so both change atomically.
type Target struct {
	pool      *pgxpool.Pool
	shape     *shape
	migration string
	config    *migration.Config
	side      string       // the quoted name of the table of versions
	horizon   atomic.Int64 // nanoseconds: how long tombstones stay
	byteKeys  bool         // see sideKey
	expectNew atomic.Bool  // see BulkLoad
}

var (
	_ store.Target         = (*Target)(nil)
	_ store.Preparer       = (*Target)(nil)
	_ store.NumberAdvancer = (*Target)(nil)
	_ store.Purger         = (*Target)(nil)
)

// defaultHorizon is how long the version of a deleted record stays.
const defaultHorizon = 24 * time.Hour

// OpenTarget connects and finds the columns that the schema's fields go into. Close
// closes the pool.
func OpenTarget(ctx context.Context, m *migration.Config, url string, schema *record.Schema) (*Target, error) {
	if m.Name == "" || len(m.Name) > maxName {
		return nil, fmt.Errorf("the migration's name must have 1 to %d bytes", maxName)
	}
	pool, err := connect(ctx, "target", url)
	if err != nil {
		return nil, err
	}
	t := &Target{pool: pool, migration: m.Name, config: m, side: pgx.Identifier{"migrator_target", m.Name}.Sanitize()}
	t.KeepTombstones(time.Duration(m.Writing.Tombstones))
	described, err := describe(ctx, pool, "target", targetConfig(m).Table)
	switch {
	case err != nil:
	case m.Schema != nil: // [columns-applied]
		t.shape = appliedShape(described, schema, targetName)
		t.shape.ownText = true
	default:
		t.shape, err = targetShape(described, schema)
	}
	if err == nil {
		t.shape.convert(m.Compare)
		t.byteKeys = t.shape.hasByteKeys()
	}
	if err != nil {
		pool.Close()
		return nil, err
	}
	return t, nil
}

// targetShape finds the columns behind the fields, in the schema's order.
func targetShape(t *table, schema *record.Schema) (*shape, error) {
	s := &shape{table: t, schema: schema, key: schema.Key}
	for _, f := range schema.Fields {
		c := t.column(f.Target)
		if c == nil {
			return nil, fmt.Errorf("field %q: target %w", f.Name, t.unknown("table", f.Target))
		}
		s.columns = append(s.columns, c)
	}
	key := make([]string, len(s.key))
	for n, i := range s.key {
		key[n] = s.columns[i].name
		if want, is := schema.Fields[i], s.columns[i]; want.Kind != is.format.kind || is.generated {
			return nil, fmt.Errorf("target column %q is of type %s and %q of legacy of type %s: a key must read the same in both", is.name, is.declared, want.Name, want.Type)
		}
	}
	s.ownText = true
	s.setLooseKey()
	return s, t.fitsAsKey("target", key)
}

// Close ends the connections, once those in use have been returned. It never fails.
func (t *Target) Close() error {
	t.pool.Close()
	return nil
}

// Pool is the store's pool, with the session settings on which its texts depend.
func (t *Target) Pool() *pgxpool.Pool { return t.pool }

// Prepare creates the table of versions; a second call changes nothing. The first call
// needs the CREATE privilege on the database.
func (t *Target) Prepare(ctx context.Context) error {
	err := inTx(ctx, t.pool, pgx.ReadWrite, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock(hashtextextended('migrator:install', 0))"); err != nil {
			return err
		}
		var schema, there, marks bool
		if err := tx.QueryRow(ctx, "SELECT to_regnamespace('migrator_target') IS NOT NULL, to_regclass($1) IS NOT NULL, to_regclass($2) IS NOT NULL",
			t.side, marksTable).Scan(&schema, &there, &marks); err != nil {
			return err
		}
		if !schema {
			_, err := tx.Exec(ctx, `CREATE SCHEMA migrator_target;
				COMMENT ON SCHEMA migrator_target IS 'migrator: versions of the records that migrations have moved here'`)
			if err != nil {
				return err
			}
		}
		if !marks {
			if _, err := tx.Exec(ctx, marksSQL+aliveSQL(targetAlive)); err != nil {
				return err
			}
		}
		if there {
			return nil
		}
		_, err := tx.Exec(ctx, `
			CREATE TABLE `+t.side+` (
				key text COLLATE "C" PRIMARY KEY,
				version text COLLATE "C" NOT NULL CHECK (length(version) = 32),
				deleted boolean NOT NULL,
				expires timestamptz
			);
			COMMENT ON TABLE `+t.side+` IS `+literal("versions of the records in "+showTable(t.shape.name))+`;
			COMMENT ON COLUMN `+t.side+`.deleted IS 'a tombstone: the record is gone, and its version stays until expires';
			CREATE INDEX ON `+t.side+` (expires) WHERE expires IS NOT NULL`)
		return err
	})
	if hasState(err, statePrivilege) {
		return hint.Errorf(hint.Hint{Text: "GRANT CREATE ON DATABASE ... TO the role"}, "create the table of versions in the target database: %w", err)
	}
	if err != nil {
		return fmt.Errorf("create the table of versions in the target database: %w", err)
	}
	return nil
}

// Now implements store.Target.
func (t *Target) Now(ctx context.Context) (time.Time, error) {
	var now time.Time
	if err := t.pool.QueryRow(ctx, "SELECT clock_timestamp()").Scan(&now); err != nil {
		return now, fmt.Errorf("read the target's clock: %w", err)
	}
	return now, nil
}

// Purge removes the versions of records that were deleted longer ago than the
// horizon, and returns how many. No write that could still arrive is older than that.
func (t *Target) Purge(ctx context.Context) (int64, error) {
	var purged int64
	for {
		// [tombstone]: only past the horizon.
		tag, err := t.pool.Exec(ctx, `
			DELETE FROM `+t.side+` WHERE deleted AND expires < clock_timestamp() AND key IN (
				SELECT key FROM `+t.side+` WHERE deleted AND expires < clock_timestamp() LIMIT 10000 FOR UPDATE SKIP LOCKED)`)
		if err != nil {
			return purged, fmt.Errorf("remove old tombstones of target table %s: %w", t.table(), asUnprepared(err))
		}
		purged += tag.RowsAffected()
		if tag.RowsAffected() == 0 {
			return purged, nil
		}
		failpoint.Here("postgres.purge.batch")
	}
}

// table is the table's name in messages.
func (t *Target) table() string { return showTable(t.shape.name) }

var errUnprepared = hint.Errorf(hint.Hint{Do: hint.Apply}, "the target database has no table of versions for this migration")

func asUnprepared(err error) error {
	if lacks(err, "migrator_target", stateUndefinedTable, stateNoSchema) {
		return fmt.Errorf("%w (SQLSTATE %s)", errUnprepared, pgfail.SQLState(err))
	}
	return err
}

// KeepTombstones implements store.TombstoneHolder. Not above 0: the default.
func (t *Target) KeepTombstones(horizon time.Duration) {
	if horizon <= 0 {
		horizon = defaultHorizon
	}
	t.horizon.Store(int64(horizon))
}
