package state

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"

	"github.com/stranglerfig/migrator/internal/failpoint"
	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/pgfail"
	"github.com/stranglerfig/migrator/internal/statedb"
)

//go:embed migrations/*.sql
var migrations embed.FS

const (
	versionTable = statedb.Schema + ".schema_version"
	// migrateLock is the advisory lock of every process that changes the schema.
	migrateLock int64 = 0x6d69677261746f72
)

// RollbackFrom is the oldest schema with which this binary rolls back. A host may get a new migrator before
// the schema does, and a rollback can't wait for the role that owns it. A test rolls back with it; a
// release whose rollback needs more of the schema raises it.
const RollbackFrom = 42

// Errors about the schema as a whole.
var (
	ErrNewer = errors.New("the state database's schema is newer than this migrator")
	ErrOlder = errors.New("the state database's schema is older than this migrator")
)

// Migrate brings the schema to this binary's version, creating it where it is
// missing, unless in a dry run, and returns the versions before (0: none) and after. Concurrent calls wait for
// each other. ErrNewer if a newer binary has already migrated the schema.
func Migrate(ctx context.Context, url string) (from, to int64, err error) {
	return MigrateTo(ctx, url, binaryVersion())
}

// MigrateTo is Migrate, but for the schema's later versions: with it a test makes the schema of an older release.
func MigrateTo(ctx context.Context, url string, version int64) (from, to int64, err error) {
	cfg, err := statedb.ParseURL(url)
	if err != nil {
		return 0, 0, err
	}
	db := stdlib.OpenDB(*cfg.ConnConfig)
	defer func() { err = errors.Join(err, db.Close()) }()
	// The lock is the session's: it ends with the connection. It is not goose's lock, because
	// goose reads the version table before it locks.
	began := time.Now()
	lock, err := db.Conn(ctx)
	if err != nil {
		return 0, 0, statedb.Unreachable(err, cfg.ConnConfig, time.Since(began))
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	err = lock.Raw(func(driver any) error {
		conn, ok := driver.(*stdlib.Conn)
		if !ok {
			return fmt.Errorf("unknown connection %T", driver)
		}
		if err := statedb.RefuseOld(conn.Conn()); err != nil {
			return err
		}
		return statedb.RefusePooler(ctx, conn.Conn())
	})
	if err != nil {
		return 0, 0, err
	}
	if _, err := lock.ExecContext(ctx, `SELECT pg_advisory_lock($1)`, migrateLock); err != nil {
		return 0, 0, err
	}
	if from, err = prepare(ctx, lock); err != nil {
		return from, from, statedb.Explain(err)
	}
	if IsDryRun(ctx) {
		return from, version, nil
	}
	if from < version {
		if err := migrateQueue(ctx, cfg); err != nil {
			return from, from, statedb.Explain(err)
		}
	}
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return from, from, err
	}
	provider, err := goose.NewProvider(goose.DialectPostgres, db, files,
		goose.WithTableName(versionTable), goose.WithDisableGlobalRegistry(true), goose.WithLogger(goose.NopLogger()))
	if err != nil {
		return from, from, err
	}
	for {
		// Each step is a transaction: a command that is killed here leaves a consistent schema, and
		// the next one resumes.
		done, err := provider.GetDBVersion(ctx)
		if err == nil && done >= version {
			return from, version, nil
		}
		if err == nil {
			_, err = provider.UpByOne(ctx)
		}
		switch {
		case errors.Is(err, goose.ErrNoNextVersion):
			return from, version, nil
		case err != nil:
			return from, from, statedb.Explain(err)
		}
		failpoint.Here("state.init.step")
	}
}

// prepare creates the schemas and finds the version. It creates only what is missing: with
// schemas that an administrator created, the role needs no CREATE on the database.
func prepare(ctx context.Context, conn *sql.Conn) (found int64, err error) {
	var schema, queue, table bool
	err = conn.QueryRowContext(ctx, `SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1), EXISTS (SELECT FROM pg_namespace WHERE nspname = $2),
		EXISTS (SELECT FROM pg_tables WHERE schemaname = $1 AND tablename = 'schema_version')`, statedb.Schema, statedb.QueueSchema).Scan(&schema, &queue, &table)
	if err != nil {
		return 0, err
	}
	if !schema && !IsDryRun(ctx) {
		if _, err := conn.ExecContext(ctx, `CREATE SCHEMA `+statedb.Schema); err != nil {
			return 0, fmt.Errorf("create the schema migrator: %w", err)
		}
		failpoint.Here("state.init.schema")
	}
	if !queue && !IsDryRun(ctx) {
		if _, err := conn.ExecContext(ctx, `CREATE SCHEMA `+statedb.QueueSchema); err != nil {
			return 0, fmt.Errorf("create the schema %s: %w", statedb.QueueSchema, err)
		}
	}
	if !table {
		return 0, nil
	}
	if err := conn.QueryRowContext(ctx, versionSQL).Scan(&found); err != nil {
		return 0, err
	}
	if found > binaryVersion() {
		return found, newer(found)
	}
	return found, nil
}

const versionSQL = `SELECT coalesce(max(version_id), 0) FROM ` + versionTable

// checkVersion refuses a schema that this binary was not made for, which is older than the oldest that is
// good enough, or newer than its own. It returns the schema's version.
func checkVersion(ctx context.Context, q statedb.Querier, oldest int64) (found int64, err error) {
	err = q.QueryRow(ctx, versionSQL).Scan(&found)
	if code := pgfail.SQLState(err); code == pgfail.UndefinedTable || code == pgfail.UndefinedSchema {
		return 0, statedb.ErrNoSchema
	}
	if err != nil {
		return 0, statedb.Explain(err)
	}
	switch want := binaryVersion(); {
	case found > want:
		return found, newer(found)
	case found < oldest:
		text := "as the role that owns the schema; until then this release only rolls back"
		if found < RollbackFrom {
			text = "as the role that owns the schema; until then every command of the release that made it still works, a rollback too"
		}
		return found, hint.Errorf(hint.Hint{Do: hint.Init, Text: text}, "%w: its version is %d, this binary needs %d", ErrOlder, found, oldest)
	}
	return found, nil
}

func newer(found int64) error {
	return hint.Errorf(hint.Hint{Text: "a newer migrator"}, "%w: its version is %d, this binary knows %d", ErrNewer, found, binaryVersion())
}

// binaryVersion is the number of the newest embedded migration.
func binaryVersion() (newest int64) {
	names, _ := fs.Glob(migrations, "migrations/*.sql")
	for _, name := range names {
		number, _, _ := strings.Cut(strings.TrimPrefix(name, "migrations/"), "_")
		if v, err := strconv.ParseInt(number, 10, 64); err == nil {
			newest = max(newest, v)
		}
	}
	return newest
}
