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
	rules       bool   // rewrite rules for INSERT or UPDATE, because of which the server refuses ON CONFLICT, or INSTEAD of DELETE
	owner       string
	server      int // server_version_num
	columns     []column
	keys        []uniqueKey // unique, immediate, over plain columns; the primary key first
	primary     []string    // the primary key's columns, also if it is deferrable or temporal
	temporal    bool        // the primary key is WITHOUT OVERLAPS: ON CONFLICT refuses it
}

// column is one column of a table.
type column struct {
	mapped

	name           string
	declared       string // its type as SQL prints it: numeric(30,10), or the domain's name
	base           baseType
	format         format
	notNull        bool
	hasDefault     bool   // has a default
	generated      bool   // computed by the server: it can't be written
	identity       string // a: GENERATED ALWAYS AS IDENTITY
	typ            *sqlType
	inside         string // record.InsideText of typ
	typmod         int32  // -1: none
	looseCollation bool   // its collation takes different texts as equal
	number         int16  // attnum: stays with the column when it is renamed
	collation      string // its name, with its schema if that is not pg_catalog; "": the type has none
}

type uniqueKey struct {
	columns []string
	odd     []bool // of each column: the index compares it by a class of operators that nothing is known of
	loose   []bool // the index's collation takes different texts as equal
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

// manyTexts says why values of a column of the key that a unique index over exactly the key takes as
// equal, or the column's own = does, may have several texts; "": equal means the same text.
//
// Every such index counts: the server asks all of them whether a row is there (ON CONFLICT).
func (t *table) manyTexts(c *column, key []string) string {
	if why := c.typ.manyTexts(c.typmod, c.looseCollation); why != "" {
		return why
	}
	want := slices.Sorted(slices.Values(key))
	for _, k := range t.keys {
		if !slices.Equal(slices.Sorted(slices.Values(k.columns)), want) {
			continue
		}
		at := slices.Index(k.columns, c.name)
		if why := c.typ.manyTexts(c.typmod, k.loose[at]); why != "" {
			return within("of the unique index", why)
		}
		if k.odd[at] {
			return "the unique index compares it by a class of operators of its own"
		}
	}
	return ""
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
		       EXISTS (SELECT FROM pg_rewrite r WHERE r.ev_class = c.oid AND (r.ev_type IN ('2', '3') OR r.ev_type = '4' AND r.is_instead)),
		       pg_get_userbyid(c.relowner),
		       c.relkind = 'r' AND EXISTS (SELECT FROM pg_inherits i WHERE i.inhparent = c.oid), current_setting('server_version_num')::int
		FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE n.nspname = $1 AND c.relname = $2`, t.name[0], t.name[1]).
		Scan(&t.oid, &kind, &persistence, &t.identity, &t.policies, &t.rules, &t.owner, &children, &t.server)
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
		SELECT a.attnum, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull AND NOT EXISTS (SELECT FROM pg_constraint k
		           WHERE k.conrelid = a.attrelid AND k.contype = 'n' AND k.conkey = ARRAY[a.attnum] AND NOT k.convalidated),
		       a.atthasdef AND a.attgenerated = '', a.attgenerated <> '',
		       a.attidentity::text, a.atttypid, a.atttypmod, coalesce(NOT l.collisdeterministic, false),
		       coalesce(CASE WHEN l.collnamespace = 'pg_catalog'::regnamespace THEN '' ELSE l.collnamespace::regnamespace::text || '.' END || l.collname, '')
		FROM pg_attribute a LEFT JOIN pg_collation l ON l.oid = a.attcollation
		WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped
		ORDER BY a.attnum`, t.oid)
	if err != nil {
		return err
	}
	var types []uint32
	t.columns, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (column, error) {
		var c column
		var oid uint32
		err := row.Scan(&c.number, &c.name, &c.declared, &c.notNull, &c.hasDefault, &c.generated, &c.identity, &oid, &c.typmod, &c.looseCollation, &c.collation)
		types = append(types, oid)
		return c, err
	})
	if err != nil {
		return err
	}
	resolved, err := readTypes(ctx, pool, t.server, types)
	if err != nil {
		return err
	}
	for i := range t.columns {
		c := &t.columns[i]
		typ := resolved[types[i]]
		if typ == nil {
			return fmt.Errorf("column %q is of a type that was dropped meanwhile", c.name)
		}
		c.resolve(typ)
	}
	return nil
}

func (t *table) readKeys(ctx context.Context, pool *pgxpool.Pool) error {
	rows, err := pool.Query(ctx, `
		SELECT i.indisprimary, i.indimmediate, i.indisexclusion, array_agg(a.attname::text ORDER BY k.at),
		       array_agg(NOT o.opcdefault AND f.proname IS NULL ORDER BY k.at), array_agg(coalesce(NOT l.collisdeterministic, false) ORDER BY k.at)
		FROM pg_index i
		CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, at)
		JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
		LEFT JOIN pg_opclass o ON o.oid = i.indclass[k.at - 1]
		LEFT JOIN pg_amproc p ON p.amprocfamily = o.opcfamily AND p.amproclefttype = o.opcintype AND p.amprocrighttype = o.opcintype AND p.amprocnum = 4
		LEFT JOIN pg_proc f ON f.oid = p.amproc AND f.pronamespace = 'pg_catalog'::regnamespace
		LEFT JOIN pg_collation l ON l.oid = i.indcollation[k.at - 1]
		WHERE i.indrelid = $1 AND (i.indisunique OR i.indisprimary) AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
		  AND k.at <= i.indnkeyatts
		GROUP BY i.indexrelid, i.indisprimary, i.indimmediate, i.indisexclusion
		ORDER BY i.indisprimary DESC, i.indexrelid`, t.oid)
	if err != nil {
		return err
	}
	var primary, immediate, exclusion bool
	var columns []string
	var odd, loose []bool
	_, err = pgx.ForEachRow(rows, []any{&primary, &immediate, &exclusion, &columns, &odd, &loose}, func() error {
		if primary {
			t.primary, t.temporal = slices.Clone(columns), exclusion
		}
		if immediate && !exclusion {
			t.keys = append(t.keys, uniqueKey{columns: slices.Clone(columns), odd: slices.Clone(odd), loose: slices.Clone(loose)})
		}
		return nil
	})
	return err
}
