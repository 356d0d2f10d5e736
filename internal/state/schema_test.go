package state_test

import (
	"context"
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/test/testenv"
)

var update = flag.Bool("update", false, "write schema.sql")

//go:generate go test -count=1 -run ^(TestSchemaFile|TestRolesMayDoWhatTheDocumentSays)$ . -update

const schemaHead = `-- The state database as its migrations leave it: what each table and function is now,
-- whichever migration changed it last. Generated from the catalogue by go generate, and
-- checked by TestSchemaFile; the job queue's own schema is its library's.

`

// schemaSQL lists the contents of the schema migrator, one statement a row.
const schemaSQL = `
WITH tables AS (SELECT c.oid, c.relname FROM pg_class c WHERE c.relnamespace = 'migrator'::regnamespace AND c.relkind IN ('r', 'p'))
SELECT statement FROM (
	SELECT 0 AS part, d.typname AS name, '' AS more, format('CREATE DOMAIN migrator.%I AS %s%s;', d.typname, format_type(d.typbasetype, d.typtypmod), (
		SELECT string_agg(' CONSTRAINT ' || quote_ident(k.conname) || ' ' || pg_get_constraintdef(k.oid), '' ORDER BY k.conname)
		FROM pg_constraint k WHERE k.contypid = d.oid)) AS statement
	FROM pg_type d WHERE d.typnamespace = 'migrator'::regnamespace AND d.typtype = 'd'
	UNION ALL
	SELECT 1 AS part, relname AS name, '' AS more, format(E'CREATE TABLE migrator.%I (\n%s\n);', relname, (
		SELECT string_agg(line, E',\n' ORDER BY rank, name) FROM (
			SELECT 1 AS rank, to_char(a.attnum, '00000') AS name, format('    %I %s%s%s%s', a.attname, format_type(a.atttypid, a.atttypmod),
				CASE WHEN a.attidentity <> '' THEN ' GENERATED ' || CASE a.attidentity WHEN 'a' THEN 'ALWAYS' ELSE 'BY DEFAULT' END || ' AS IDENTITY' ELSE '' END,
				CASE WHEN d.adbin IS NULL THEN '' WHEN a.attgenerated <> '' THEN ' GENERATED ALWAYS AS (' || pg_get_expr(d.adbin, d.adrelid) || ') STORED'
				     ELSE ' DEFAULT ' || pg_get_expr(d.adbin, d.adrelid) END,
				CASE WHEN a.attnotnull THEN ' NOT NULL' ELSE '' END) AS line
			FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
			WHERE a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped
			UNION ALL
			SELECT 2, k.conname, format('    CONSTRAINT %I %s', k.conname, pg_get_constraintdef(k.oid))
			FROM pg_constraint k WHERE k.conrelid = t.oid AND k.contype IN ('p', 'u', 'f', 'c', 'x')) lines)) AS statement
	FROM tables t
	UNION ALL
	SELECT 2, t.relname, i.relname, pg_get_indexdef(i.oid) || ';'
	FROM tables t JOIN pg_index x ON x.indrelid = t.oid JOIN pg_class i ON i.oid = x.indexrelid
	WHERE NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.oid)
	UNION ALL
	SELECT 3, t.relname, g.tgname, pg_get_triggerdef(g.oid) || ';'
	FROM tables t JOIN pg_trigger g ON g.tgrelid = t.oid WHERE NOT g.tgisinternal
	UNION ALL
	SELECT 4, p.proname, pg_get_function_identity_arguments(p.oid), rtrim(pg_get_functiondef(p.oid), E'\n') || ';'
	FROM pg_proc p WHERE p.pronamespace = 'migrator'::regnamespace
	UNION ALL
	SELECT 5, c.relname, '', format(E'CREATE VIEW migrator.%I AS\n%s', c.relname, pg_get_viewdef(c.oid))
	FROM pg_class c WHERE c.relnamespace = 'migrator'::regnamespace AND c.relkind = 'v') s
ORDER BY part, name, more`

// TestSchemaFile: schema.sql is what the migrations leave behind.
func TestSchemaFile(t *testing.T) {
	t.Parallel()
	url := testenv.PostgresURL(t)
	_, _, err := state.Migrate(t.Context(), url)
	must(t, err)
	conn, err := pgx.Connect(t.Context(), url)
	must(t, err)
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	_, err = conn.Exec(t.Context(), `SET search_path = pg_catalog`)
	must(t, err)
	rows, err := conn.Query(t.Context(), schemaSQL)
	must(t, err)
	statements, err := pgx.CollectRows(rows, pgx.RowTo[string])
	must(t, err)
	got := schemaHead + strings.Join(statements, "\n\n") + "\n"
	if *update {
		must(t, os.WriteFile("schema.sql", []byte(got), 0o644))
	}
	want, err := os.ReadFile("schema.sql")
	must(t, err)
	if got != string(want) {
		line := 0
		a, b := strings.Split(got, "\n"), strings.Split(string(want), "\n")
		for line < min(len(a), len(b)) && a[line] == b[line] {
			line++
		}
		t.Errorf("schema.sql is not what the migrations leave: line %d is %q, want %q; try: go generate ./internal/state",
			line+1, b[min(line, len(b)-1)], a[min(line, len(a)-1)])
	}
}
