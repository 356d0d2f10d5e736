package postgres

import (
	"context"
	"crypto/sha256"
	"encoding/hex"

	"github.com/jackc/pgx/v5"
)

// fenceFunction refuses a write unless the session has set migrator.attempt to the
// fence's attempt. The attempt is the trigger's argument, and is not read from a table:
// a transaction with an old snapshot would not see the row, but it sees the trigger.
// The setting prevents accidents, not malice: a role that may drop triggers may drop
// these.
//
// [fence-whole]: a transaction with an old snapshot is refused too.
const fenceFunction = `
CREATE OR REPLACE FUNCTION migrator_legacy.fence() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF TG_OP <> 'TRUNCATE' AND current_setting('migrator.attempt', true) = TG_ARGV[1] THEN
		IF TG_OP = 'DELETE' THEN
			RETURN OLD;
		END IF;
		RETURN NEW;
	END IF;
	RAISE EXCEPTION USING ERRCODE = 'MG001',
		MESSAGE = format('%I.%I takes no writes: the migration %s has retired it', TG_TABLE_SCHEMA, TG_TABLE_NAME, TG_ARGV[0]),
		HINT = format('Write to the new store: this transaction changes nothing. "migrator status %s" says where the migration stands, and on its line "rollback" whether the table can still be given back ("migrator phase rollback"); once the migration is complete it can not.', TG_ARGV[0]);
END $$;
`

const fencePrefix = "migrator_fence_"

// fenceName is the name of the triggers of one attempt. Each attempt has its own name,
// so that disabled triggers of an earlier attempt don't conflict.
func fenceName(migration, attempt string) string {
	sum := sha256.Sum256([]byte(migration + "\x00" + attempt))
	return fenceOwner(migration) + hex.EncodeToString(sum[:8])
}

// fenceOwner is the prefix of the names of all triggers of a migration.
func fenceOwner(migration string) string {
	sum := sha256.Sum256([]byte(migration))
	return fencePrefix + hex.EncodeToString(sum[:6]) + "_"
}

// tree lists the table and all partitions, including those that are partitioned.
func (l *Legacy) tree(ctx context.Context, tx pgx.Tx) ([]string, error) {
	rows, err := tx.Query(ctx, `
		SELECT format('%I.%I', n.nspname, c.relname)
		FROM (SELECT $1::oid AS oid UNION SELECT relid::oid FROM pg_partition_tree($1::oid::regclass)) AS tree
		JOIN pg_class c ON c.oid = tree.oid JOIN pg_namespace n ON n.oid = c.relnamespace
		ORDER BY c.oid`, l.shape.oid)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// placeFence creates the attempt's triggers where they are missing: one for rows
// on the table, which PostgreSQL clones to every partition, and one for TRUNCATE on
// each relation, since truncating a partition does not fire its parent's.
func (l *Legacy) placeFence(ctx context.Context, tx pgx.Tx, attempt string) error {
	name := fenceName(l.name, attempt)
	call := " EXECUTE FUNCTION migrator_legacy.fence(" + literal(l.name) + ", " + literal(attempt) + ")"
	there, err := l.fences(ctx, tx, name)
	if err != nil {
		return err
	}
	have := map[[2]string]bool{}
	for _, f := range there {
		have[f] = true
	}
	relations, err := l.tree(ctx, tx)
	if err != nil {
		return err
	}
	root := l.shape.name.Sanitize()
	var rootShown string
	if err := tx.QueryRow(ctx, "SELECT format('%I.%I', $1::text, $2::text)", l.shape.name[0], l.shape.name[1]).Scan(&rootShown); err != nil {
		return err
	}
	if !have[[2]string{rootShown, name}] {
		if _, err := tx.Exec(ctx, "CREATE TRIGGER "+name+" BEFORE INSERT OR UPDATE OR DELETE ON "+root+" FOR EACH ROW"+call); err != nil {
			return err
		}
	}
	for _, relation := range relations {
		if have[[2]string{relation, name + "_t"}] {
			continue
		}
		if _, err := tx.Exec(ctx, "CREATE TRIGGER "+name+"_t BEFORE TRUNCATE ON "+relation+" FOR EACH STATEMENT"+call); err != nil {
			return err
		}
	}
	// [fence-whole]: logical replication into the table does not fire an ordinary trigger.
	return l.alterFence(ctx, tx, name, "ENABLE ALWAYS") // also in a session that applies replication
}

// disableFence needs no stronger lock than the fence itself: it waits for no reader.
func (l *Legacy) disableFence(ctx context.Context, tx pgx.Tx, attempt string) error {
	return l.alterFence(ctx, tx, fenceName(l.name, attempt), "DISABLE")
}

func (l *Legacy) alterFence(ctx context.Context, tx pgx.Tx, name, how string) error {
	there, err := l.fences(ctx, tx, name)
	if err != nil {
		return err
	}
	for _, f := range there {
		if _, err := tx.Exec(ctx, "ALTER TABLE ONLY "+f[0]+" "+how+" TRIGGER "+quote(f[1])); err != nil {
			return err
		}
	}
	return nil
}

// fences lists relations, quoted, and triggers whose names begin with the prefix.
func (l *Legacy) fences(ctx context.Context, tx pgx.Tx, prefix string) ([][2]string, error) {
	rows, err := tx.Query(ctx, `
		SELECT format('%I.%I', n.nspname, c.relname), t.tgname::text
		FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE starts_with(t.tgname::text, $1) ORDER BY t.tgparentid, t.oid`, prefix)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (f [2]string, err error) {
		err = row.Scan(&f[0], &f[1])
		return f, err
	})
}

// dropFences drops every trigger of this migration. The triggers of partitions are
// dropped with their parent's.
func (l *Legacy) dropFences(ctx context.Context, tx pgx.Tx) error {
	there, err := l.fences(ctx, tx, fenceOwner(l.name))
	if err != nil {
		return err
	}
	for _, f := range there {
		var own bool
		err := tx.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = $1::text::regclass AND tgname = $2 AND tgparentid = 0)", f[0], f[1]).Scan(&own)
		if err != nil {
			return err
		}
		if !own {
			continue
		}
		if _, err := tx.Exec(ctx, "DROP TRIGGER "+quote(f[1])+" ON "+f[0]); err != nil {
			return err
		}
	}
	return nil
}
