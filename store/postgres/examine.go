package postgres

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/stranglerfig/migrator/internal/oneline"
)

// examined is what a table holds besides its columns: whatever may refuse a row, change it, or take
// two rows as one.
type examined struct {
	*table
	pool     *pgxpool.Pool
	version  int                   // the server's: 170002
	sizes    map[string]columnSize // by the column's name
	unique   []uniqueIndex
	checks   []tableConstraint // CHECK and foreign keys, of the table and of its columns' domains
	referrer []tableConstraint // foreign keys of others that refer to it
	triggers []rowTrigger      // that are enabled
	odd      []string          // how its storage is not that of a plain table
	warnings []string          // likewise, of which a migration may do well
}

// columnSize is what limits a column's values beyond its type's name.
type columnSize struct {
	typmod int32
	labels []string // of an enum
}

type tableConstraint struct{ name, text string }

type rowTrigger struct {
	name   string
	before bool // BEFORE ... FOR EACH ROW: it may change or drop the row
}

// uniqueIndex is a unique index or an exclusion constraint.
type uniqueIndex struct {
	name      string
	exclusion bool
	columns   []string // of its keys that are plain columns
	defs      []string // of all its keys, as SQL: names of columns and expressions
	how       []string // of each key, by what it compares, if not by the type's own =: a collation, an operator
	reads     []string // the columns in its expressions and its condition
	condition string   // of a partial index
	nullsSame bool     // NULLS NOT DISTINCT
}

func (x uniqueIndex) plain() bool { return len(x.columns) == len(x.defs) && !x.exclusion }

// loose reports whether it takes values as one that the type's own = tells apart.
func (x uniqueIndex) loose() bool {
	return slices.ContainsFunc(x.how, func(how string) bool { return how != "" })
}

func (x uniqueIndex) describe() string {
	what := "unique index "
	if x.exclusion {
		what = "exclusion constraint "
	}
	keys := slices.Clone(x.defs)
	for i, how := range x.how {
		if how != "" {
			keys[i] += " " + how
		}
	}
	text := what + quote(x.name) + " (" + strings.Join(keys, ", ") + ")"
	if x.nullsSame {
		text += " NULLS NOT DISTINCT"
	}
	if x.condition != "" {
		text += " WHERE " + x.condition
	}
	return oneline.Escape(text)
}

// examine reads what describe does not. Partitions and their indexes follow those of the table,
// but for what is read of each.
func examine(ctx context.Context, pool *pgxpool.Pool, t *table) (*examined, error) {
	x := &examined{table: t, pool: pool, sizes: map[string]columnSize{}}
	if err := pool.QueryRow(ctx, "SELECT current_setting('server_version_num')::int").Scan(&x.version); err != nil {
		return nil, err
	}
	for _, read := range []func(context.Context) error{x.readSizes, x.readUnique, x.readConstraints, x.readTriggers, x.readStorage} {
		if err := read(ctx); err != nil {
			return nil, fmt.Errorf("examine table %s: %w", showTable(t.name), err)
		}
	}
	return x, nil
}

// each runs a query with the table's oid as $1, and scans each row into the pointers.
func (x *examined) each(ctx context.Context, sql string, into []any, do func()) error {
	rows, err := x.pool.Query(ctx, sql, x.oid)
	if err != nil {
		return err
	}
	_, err = pgx.ForEachRow(rows, into, func() error { do(); return nil })
	return err
}

func (x *examined) readSizes(ctx context.Context) error {
	var name string
	var size columnSize
	return x.each(ctx, `
		WITH RECURSIVE r AS (
			SELECT a.attname, a.atttypid AS type, a.atttypmod AS typmod FROM pg_attribute a
			WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped
			UNION ALL
			SELECT r.attname, t.typbasetype, t.typtypmod FROM r JOIN pg_type t ON t.oid = r.type WHERE t.typtype = 'd'
		)
		SELECT r.attname::text, r.typmod,
		       (SELECT coalesce(array_agg(e.enumlabel::text ORDER BY e.enumsortorder), '{}') FROM pg_enum e WHERE e.enumtypid IN (t.oid, t.typelem))
		FROM r JOIN pg_type t ON t.oid = r.type WHERE t.typtype <> 'd'`,
		[]any{&name, &size.typmod, &size.labels}, func() {
			size.labels = slices.Clone(size.labels)
			x.sizes[name] = size
		})
}

// readUnique: the equality of a key is the third strategy of a B-tree's operator class, or the
// operator of an exclusion constraint. to_jsonb reads a column that older versions lack.
func (x *examined) readUnique(ctx context.Context) error {
	var u uniqueIndex
	return x.each(ctx, `
		SELECT c.relname::text, i.indisexclusion,
		       ARRAY(SELECT a.attname::text FROM unnest(i.indkey::int2[], i.indclass::oid[], i.indcollation::oid[]) WITH ORDINALITY AS k(attnum, opclass, coll, at) JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
		             WHERE k.at <= i.indnkeyatts ORDER BY k.at),
		       ARRAY(SELECT coalesce((SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = i.indrelid AND a.attnum = k.attnum),
		                             pg_get_indexdef(i.indexrelid, k.at::int, true))
		             FROM unnest(i.indkey::int2[], i.indclass::oid[], i.indcollation::oid[]) WITH ORDINALITY AS k(attnum, opclass, coll, at) WHERE k.at <= i.indnkeyatts ORDER BY k.at),
		       ARRAY(SELECT concat_ws(' ',
		                CASE WHEN NOT l.collisdeterministic THEN 'COLLATE ' || quote_ident(l.collname) END,
		                CASE WHEN i.indisexclusion THEN CASE WHEN op.oprname <> '=' THEN 'WITH ' || op.oprname END
		                     WHEN e.amopopr IS DISTINCT FROM own.amopopr THEN quote_ident(o.opcname) END)
		             FROM unnest(i.indkey::int2[], i.indclass::oid[], i.indcollation::oid[]) WITH ORDINALITY AS k(attnum, opclass, coll, at) JOIN pg_opclass o ON o.oid = k.opclass
		             LEFT JOIN pg_collation l ON l.oid = k.coll
		             LEFT JOIN pg_operator op ON op.oid = n.conexclop[k.at]
		             LEFT JOIN pg_amop e ON e.amopfamily = o.opcfamily AND e.amoplefttype = o.opcintype AND e.amoprighttype = o.opcintype AND e.amopstrategy = 3
		             LEFT JOIN pg_opclass d ON d.opcmethod = o.opcmethod AND d.opcintype = o.opcintype AND d.opcdefault
		             LEFT JOIN pg_amop own ON own.amopfamily = d.opcfamily AND own.amoplefttype = o.opcintype AND own.amoprighttype = o.opcintype AND own.amopstrategy = 3
		             WHERE k.at <= i.indnkeyatts ORDER BY k.at),
		       ARRAY(SELECT DISTINCT a.attname::text FROM pg_depend p JOIN pg_attribute a ON a.attrelid = p.refobjid AND a.attnum = p.refobjsubid
		             WHERE p.classid = 'pg_class'::regclass AND p.objid = i.indexrelid AND p.refobjid = i.indrelid AND p.refobjsubid > 0),
		       coalesce(pg_get_expr(i.indpred, i.indrelid, true), ''),
		       coalesce((to_jsonb(i)->>'indnullsnotdistinct')::bool, false)
		FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
		LEFT JOIN pg_constraint n ON n.conindid = i.indexrelid AND n.conrelid = i.indrelid AND n.contype = 'x'
		WHERE i.indrelid = $1 AND (i.indisunique OR i.indisexclusion) AND i.indisready ORDER BY c.relname`,
		[]any{&u.name, &u.exclusion, &u.columns, &u.defs, &u.how, &u.reads, &u.condition, &u.nullsSame}, func() {
			v := u
			v.columns, v.defs, v.how, v.reads = slices.Clone(u.columns), slices.Clone(u.defs), slices.Clone(u.how), slices.Clone(u.reads)
			x.unique = append(x.unique, v)
		})
}

func (x *examined) readConstraints(ctx context.Context) error {
	var kind string
	var c tableConstraint
	return x.each(ctx, `
		WITH RECURSIVE d AS (
			SELECT a.atttypid AS type FROM pg_attribute a WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped
			UNION
			SELECT t.typbasetype FROM d JOIN pg_type t ON t.oid = d.type WHERE t.typtype = 'd'
		)
		SELECT CASE WHEN k.confrelid = $1 AND k.conrelid <> $1 THEN 'referrer' ELSE 'own' END, k.conname::text,
		       pg_get_constraintdef(k.oid, true) || CASE WHEN k.contypid <> 0 THEN ' of domain ' || format_type(k.contypid, -1)
		           WHEN k.conrelid <> $1 THEN ' of table ' || k.conrelid::regclass ELSE '' END
		FROM pg_constraint k
		WHERE k.contype IN ('c', 'f') AND (k.conrelid = $1 OR k.confrelid = $1 AND k.conparentid = 0 OR k.contypid IN (SELECT type FROM d))
		ORDER BY 1, 2`,
		[]any{&kind, &c.name, &c.text}, func() {
			if kind == "own" {
				x.checks = append(x.checks, c)
			} else {
				x.referrer = append(x.referrer, c)
			}
		})
}

// readTriggers leaves out those that don't run in a session of migrator's: disabled ones, and those
// for replicas alone. A partition's own trigger has no parent.
func (x *examined) readTriggers(ctx context.Context) error {
	var tr rowTrigger
	return x.each(ctx, `
		SELECT g.tgname::text, g.tgtype & 3 = 3
		FROM pg_trigger g JOIN pg_proc p ON p.oid = g.tgfoid
		WHERE g.tgrelid IN (SELECT $1::oid UNION SELECT relid FROM pg_partition_tree($1::oid::regclass))
		  AND NOT g.tgisinternal AND g.tgenabled IN ('O', 'A') AND g.tgtype & 28 <> 0 AND coalesce((to_jsonb(g)->>'tgparentid')::oid, 0) = 0
		  AND p.prosrc <> 'suppress_redundant_updates_trigger' AND NOT starts_with(g.tgname::text, '`+fencePrefix+`')
		GROUP BY 1, 2 ORDER BY 2 DESC, 1`,
		[]any{&tr.name, &tr.before}, func() { x.triggers = append(x.triggers, tr) })
}

func (x *examined) readStorage(ctx context.Context) error {
	var name, kind, method string
	var partition, root, unlogged, inherits, open bool
	return x.each(ctx, `
		SELECT c.oid::regclass::text, c.relkind::text, coalesce(m.amname::text, 'heap'), c.relispartition, c.oid = $1, c.relpersistence = 'u',
		       EXISTS (SELECT FROM pg_inherits h WHERE h.inhrelid = c.oid),
		       EXISTS (SELECT FROM pg_partitioned_table p WHERE p.partrelid = c.oid AND p.partdefid = 0 AND p.partstrat <> 'h')
		FROM pg_class c LEFT JOIN pg_am m ON m.oid = c.relam AND c.relkind = 'r'
		WHERE c.oid IN (SELECT $1::oid UNION SELECT relid FROM pg_partition_tree($1::oid::regclass)) ORDER BY 1`,
		[]any{&name, &kind, &method, &partition, &root, &unlogged, &inherits, &open}, func() {
			name := oneline.Escape(name)
			switch {
			case kind == "f":
				x.odd = append(x.odd, "partition "+name+" is a foreign table: its writes are not part of the transaction, and its rows can't be locked")
			case method != "heap":
				x.warnings = append(x.warnings, name+" has the access method "+method+": locks, conflicts and versions are tested with heap alone")
			}
			switch {
			case unlogged && !root:
				x.warnings = append(x.warnings, "partition "+name+" is unlogged: a crash empties it")
			case root && partition:
				x.warnings = append(x.warnings, name+" is itself a partition: records beyond its bounds are refused")
			case root && inherits:
				x.warnings = append(x.warnings, name+" inherits from another table, whose readers see its rows too")
			}
			if open {
				x.warnings = append(x.warnings, name+" has no default partition: records for which it has no partition are refused")
			}
		})
}
