package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/stranglerfig/migrator/internal/hint"
)

// table is the description of a table in the catalog.
type table struct {
	name        pgx.Identifier
	oid         uint32
	partitioned bool
	unlogged    bool
	identity    string // relreplident
	policies    bool   // row-level security is on
	rules       bool   // rewrite rules for INSERT or UPDATE, because of which the server refuses ON CONFLICT
	owner       string
	columns     []column
	keys        []uniqueKey // unique, immediate, over plain columns; the primary key first
	primary     []string    // the primary key's columns, also if it is deferrable
}

// column is one column of a table.
type column struct {
	name           string
	declared       string // its type as SQL prints it: numeric(30,10), or the domain's name
	base           baseType
	format         format
	notNull        bool
	hasDefault     bool   // has a default
	generated      bool   // computed by the server: it can't be written
	identity       string // a: GENERATED ALWAYS AS IDENTITY
	equality       bool   // the type has an equality operator
	fixedScale     bool   // a numeric with a fixed scale
	looseCollation bool   // the collation compares different texts as equal
}

type uniqueKey struct {
	columns []string
}

func (t *table) column(name string) *column {
	for i := range t.columns {
		if t.columns[i].name == name {
			return &t.columns[i]
		}
	}
	return nil
}

func (t *table) columnNames() string {
	names := make([]string, len(t.columns))
	for i := range t.columns {
		names[i] = t.columns[i].name
	}
	return strings.Join(names, ", ")
}

// unique reports whether the columns, in any order, are a usable unique key.
func (t *table) unique(columns []string) bool {
	want := slices.Sorted(slices.Values(columns))
	return slices.ContainsFunc(t.keys, func(k uniqueKey) bool {
		return slices.Equal(slices.Sorted(slices.Values(k.columns)), want)
	})
}

// describe reads a table's shape. side is "legacy" or "target".
func describe(ctx context.Context, pool *pgxpool.Pool, side, name string) (*table, error) {
	if name == "" {
		return nil, hint.Errorf(hint.Hint{Text: "set " + side + ".table in the migration file"}, "%s.table is empty", side)
	}
	id, err := parseTable(name)
	if err != nil {
		return nil, fmt.Errorf("%s.table: %w", side, err)
	}
	t := &table{name: id}
	if err := t.readRelation(ctx, pool, side); err != nil {
		return nil, err
	}
	if err := t.readColumns(ctx, pool); err != nil {
		return nil, fmt.Errorf("read the columns of %s table %s: %w", side, showTable(id), err)
	}
	if err := t.readKeys(ctx, pool); err != nil {
		return nil, fmt.Errorf("read the keys of %s table %s: %w", side, showTable(id), err)
	}
	return t, nil
}

func (t *table) readRelation(ctx context.Context, pool *pgxpool.Pool, side string) error {
	var kind, persistence string
	var children bool
	err := pool.QueryRow(ctx, `
		SELECT c.oid, c.relkind::text, c.relpersistence::text, c.relreplident::text, c.relrowsecurity,
		       EXISTS (SELECT FROM pg_rewrite r WHERE r.ev_class = c.oid AND r.ev_type IN ('2', '3')),
		       pg_get_userbyid(c.relowner),
		       c.relkind = 'r' AND EXISTS (SELECT FROM pg_inherits i WHERE i.inhparent = c.oid)
		FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE n.nspname = $1 AND c.relname = $2`, t.name[0], t.name[1]).
		Scan(&t.oid, &kind, &persistence, &t.identity, &t.policies, &t.rules, &t.owner, &children)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		var here string
		_ = pool.QueryRow(ctx, `SELECT current_database()`).Scan(&here)
		return hint.Errorf(hint.Hint{Text: "check " + side + ".table, with its schema, and put names with capitals in double quotes"},
			"the %s database %s has no table %s", side, here, showTable(t.name))
	case err != nil:
		return fmt.Errorf("find %s table %s: %w", side, showTable(t.name), err)
	case kind == "v" || kind == "m" || kind == "f":
		what := map[string]string{"v": "a view", "m": "a materialized view", "f": "a foreign table"}[kind]
		return hint.Errorf(hint.Hint{Text: "name the table behind it"}, "%s table %s is %s: only a table can be locked, fenced and read by its blocks", side, showTable(t.name), what)
	case kind != "r" && kind != "p":
		return fmt.Errorf("%s table %s is no table (relkind %s)", side, showTable(t.name), kind)
	case children:
		return hint.Errorf(hint.Hint{Text: "name one of the inheriting tables"},
			"%s table %s has tables that inherit from it, whose keys may collide with its own: only plain and partitioned tables are moved", side, showTable(t.name))
	}
	t.partitioned, t.unlogged = kind == "p", persistence == "u"
	return nil
}

func (t *table) readColumns(ctx context.Context, pool *pgxpool.Pool) error {
	rows, err := pool.Query(ctx, `
		WITH RECURSIVE c AS (
			SELECT a.*, format_type(a.atttypid, a.atttypmod) AS declared FROM pg_attribute a
			WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped
		), resolved AS (
			SELECT c.attnum, c.atttypid AS type, c.atttypmod AS typmod, false AS domain_not_null FROM c
			UNION ALL
			SELECT r.attnum, t.typbasetype, t.typtypmod, r.domain_not_null OR t.typnotnull
			FROM resolved r JOIN pg_type t ON t.oid = r.type WHERE t.typtype = 'd'
		)
		SELECT c.attname, c.declared, c.attnotnull OR r.domain_not_null, c.atthasdef AND c.attgenerated = '' , c.attgenerated <> '',
		       c.attidentity::text,
		       base_schema.nspname, base.typname,
		       base.typcategory = 'A' AND base.typelem <> 0 AND base.typlen = -1 AND base.typname NOT IN ('int2vector', 'oidvector') AS is_array,
		       coalesce(element_schema.nspname, ''), coalesce(element.typname, ''), coalesce(element.typdelim::text, ','),
		       format_type(base.oid, -1),
		       EXISTS (SELECT FROM pg_opclass o JOIN pg_am m ON m.oid = o.opcmethod
		               WHERE m.amname = 'btree' AND o.opcdefault AND o.opcintype = base.oid)
		         OR base.typtype IN ('e', 'r') OR base.typname IN ('varchar') OR base.typcategory = 'A',
		       r.typmod >= 0,
		       coalesce(NOT l.collisdeterministic, false)
		FROM c
		JOIN resolved r ON r.attnum = c.attnum
		JOIN pg_type base ON base.oid = r.type AND base.typtype <> 'd'
		JOIN pg_namespace base_schema ON base_schema.oid = base.typnamespace
		LEFT JOIN LATERAL (
			WITH RECURSIVE e AS (
				SELECT x.* FROM pg_type x WHERE x.oid = base.typelem
				UNION ALL SELECT x.* FROM e JOIN pg_type x ON x.oid = e.typbasetype WHERE e.typtype = 'd'
			) SELECT * FROM e WHERE typtype <> 'd'
		) element ON base.typcategory = 'A'
		LEFT JOIN pg_namespace element_schema ON element_schema.oid = element.typnamespace
		LEFT JOIN pg_collation l ON l.oid = c.attcollation
		ORDER BY c.attnum`, t.oid)
	if err != nil {
		return err
	}
	t.columns, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (column, error) {
		var c column
		var schema, name, elementSchema, elementName, delimiter string
		err := row.Scan(&c.name, &c.declared, &c.notNull, &c.hasDefault, &c.generated, &c.identity,
			&schema, &name, &c.base.array, &elementSchema, &elementName, &delimiter,
			&c.base.cast, &c.equality, &c.fixedScale, &c.looseCollation)
		c.base.schema, c.base.name = schema, name
		if c.base.array {
			c.base.schema, c.base.name, c.base.delimiter = elementSchema, elementName, delimiter[0]
		}
		c.format = c.base.format()
		return c, err
	})
	return err
}

func (t *table) readKeys(ctx context.Context, pool *pgxpool.Pool) error {
	rows, err := pool.Query(ctx, `
		SELECT i.indisprimary, i.indimmediate,
		       array_agg(a.attname::text ORDER BY k.at)
		FROM pg_index i
		CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, at)
		JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
		WHERE i.indrelid = $1 AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
		  AND k.at <= i.indnkeyatts
		GROUP BY i.indexrelid, i.indisprimary, i.indimmediate
		ORDER BY i.indisprimary DESC, i.indexrelid`, t.oid)
	if err != nil {
		return err
	}
	var primary, immediate bool
	var columns []string
	_, err = pgx.ForEachRow(rows, []any{&primary, &immediate, &columns}, func() error {
		if primary {
			t.primary = slices.Clone(columns)
		}
		if immediate {
			t.keys = append(t.keys, uniqueKey{columns: slices.Clone(columns)})
		}
		return nil
	})
	return err
}
