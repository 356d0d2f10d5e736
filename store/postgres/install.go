package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/internal/failpoint"
	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/pgfail"
)

// installed is the number of the schema that this program installs. A greater
// one in the database belongs to a newer program.
const installed = 4

var errNotInstalled = hint.Errorf(hint.Hint{Do: hint.Apply}, "migrator's schema is not installed in the legacy database, or not for this migration")

// asNotInstalled replaces the server's error for a missing part of the schema.
func asNotInstalled(err error) error {
	if lacks(err, "migrator_legacy", stateUndefinedTable, stateNoSchema, stateUndefinedFunction) {
		return fmt.Errorf("%w (SQLSTATE %s)", errNotInstalled, pgfail.SQLState(err))
	}
	return err
}

// Install creates migrator's schema in the legacy database, with what this
// migration needs; a second call changes nothing. The first call needs the
// CREATE privilege on the database. Every role may then compute versions.
func (l *Legacy) Install(ctx context.Context) error {
	err := inTx(ctx, l.pool, pgx.ReadWrite, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock(hashtextextended('migrator:install', 0))"); err != nil {
			return err
		}
		if err := l.installSchema(ctx, tx); err != nil {
			return err
		}
		return l.installMigration(ctx, tx)
	})
	if hasState(err, statePrivilege) {
		return hint.Errorf(hint.Hint{Do: hint.Apply, Text: "as the owner of the schema migrator_legacy, or GRANT CREATE ON DATABASE ... TO the role"},
			"install migrator's schema in the legacy database: %w", err)
	}
	if err != nil {
		return fmt.Errorf("install migrator's schema in the legacy database: %w", err)
	}
	failpoint.Here("postgres.install.committed")
	return l.CheckSystem(ctx)
}

func (l *Legacy) installSchema(ctx context.Context, tx pgx.Tx) error {
	var there bool
	if err := tx.QueryRow(ctx, "SELECT to_regclass('migrator_legacy.schema') IS NOT NULL").Scan(&there); err != nil {
		return err
	}
	if there {
		var number int
		if err := tx.QueryRow(ctx, "SELECT number FROM migrator_legacy.schema").Scan(&number); err != nil {
			return err
		}
		if number > installed {
			return hint.Errorf(hint.Hint{Text: "use the newer migrator"}, "it was installed by a newer migrator (schema %d, this one knows %d)", number, installed)
		}
		if number == installed {
			return nil
		}
		_, err := tx.Exec(ctx, aliveSQL(legacyAlive)+replaySQL+setAsideSQL+captureSQL+fmt.Sprintf("UPDATE migrator_legacy.schema SET number = %d", installed))
		return err
	}
	_, err := tx.Exec(ctx, schemaSQL+aliveSQL(legacyAlive)+replaySQL+setAsideSQL+captureSQL+versionFunctions+fenceFunction)
	return err
}

// upgrade adds to an installed schema what it lacks.
func (l *Legacy) upgrade(ctx context.Context) error {
	var number int
	err := l.pool.QueryRow(ctx, "SELECT number FROM migrator_legacy.schema").Scan(&number)
	switch {
	case hasState(err, stateUndefinedTable, stateNoSchema): // not installed
		return nil
	case err != nil || number >= installed:
		return err
	}
	return inTx(ctx, l.pool, pgx.ReadWrite, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock(hashtextextended('migrator:install', 0))"); err != nil {
			return err
		}
		return l.installSchema(ctx, tx)
	})
}

const replaySQL = `
ALTER TABLE migrator_legacy.migration
	ADD COLUMN IF NOT EXISTS run int8 NOT NULL DEFAULT 0,
	ADD COLUMN IF NOT EXISTS first_era int8;
COMMENT ON COLUMN migrator_legacy.migration.run IS 'the newest run of copies to the fenced table';
COMMENT ON COLUMN migrator_legacy.migration.first_era IS 'the era in which the attempt fenced the table';
`

const schemaSQL = `
CREATE SCHEMA IF NOT EXISTS migrator_legacy;
COMMENT ON SCHEMA migrator_legacy IS 'migrator: versions of writes, and the fence of retired tables';
GRANT USAGE ON SCHEMA migrator_legacy TO PUBLIC;

CREATE TABLE migrator_legacy.schema (number int NOT NULL);
INSERT INTO migrator_legacy.schema VALUES (4);
GRANT SELECT ON migrator_legacy.schema TO PUBLIC;

CREATE TABLE migrator_legacy.migration (
	name text PRIMARY KEY,
	relation text NOT NULL,
	system_identifier text,
	attempt text,
	fence_era int8,
	fenced_at timestamptz,
	CHECK ((attempt IS NULL) = (fence_era IS NULL))
);
COMMENT ON COLUMN migrator_legacy.migration.attempt IS 'the attempt whose fence is raised';
COMMENT ON COLUMN migrator_legacy.migration.system_identifier IS 'of the server that the era belongs to';
GRANT SELECT ON migrator_legacy.migration TO PUBLIC;

CREATE TABLE migrator_legacy.lifted (
	name text REFERENCES migrator_legacy.migration ON DELETE CASCADE,
	attempt text,
	lifted_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	PRIMARY KEY (name, attempt)
);
COMMENT ON TABLE migrator_legacy.lifted IS 'attempts that are over: their fence must not be raised again';
`

func (l *Legacy) installMigration(ctx context.Context, tx pgx.Tx) error {
	if err := l.refuseSharing(ctx, tx); err != nil {
		return err
	}
	var there bool
	err := tx.QueryRow(ctx, "SELECT EXISTS (SELECT FROM migrator_legacy.migration WHERE name = $1) AND to_regclass($2) IS NOT NULL", l.name, l.era()).Scan(&there)
	if err != nil || there {
		return err
	}
	_, err = tx.Exec(ctx, "CREATE SEQUENCE IF NOT EXISTS "+l.era()+" AS int8 MINVALUE 1 MAXVALUE 4294967295 NO CYCLE; GRANT SELECT ON "+l.era()+" TO PUBLIC")
	if err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, "SELECT setval($1::text::regclass, last_value, true) FROM "+l.era()+" WHERE NOT is_called", l.era()); err != nil {
		return err
	}
	_, err = tx.Exec(ctx, "INSERT INTO migrator_legacy.migration (name, relation) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING", l.name, l.shape.name.Sanitize())
	return err
}

// era is the quoted name of the sequence that holds this migration's era.
func (l *Legacy) era() string {
	return pgx.Identifier{"migrator_legacy", eraPrefix + l.name}.Sanitize()
}

// Uninstall removes what Install made for this migration, and the schema with the
// last one. It refuses while a fence stands: lifting it decides who may write. The
// era is lost, so a migration of the same name must start with an empty target.
func (l *Legacy) Uninstall(ctx context.Context) error {
	return (&legacyForgetter{l: l}).Forget(ctx)
}
