package bench

import (
	"context"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
)

const changed = 200 // rows made to differ, scattered over the table

func toPostgres(b *testing.B, binary string, rows int) {
	c := newCluster(b, rows)
	server := startPostgres(b)
	pg := c.roots
	c.roots = func(tb testing.TB) []int { return append(pg(tb), postmaster(tb, server.URL())) }
	target := server.URL()
	execute := func(url, sql string, args ...any) {
		withConn(b, url, func(ctx context.Context, conn *pgx.Conn) error {
			_, err := conn.Exec(ctx, sql, args...)
			return err
		})
	}
	execute(target, tableDDL)
	env := []string{"LEGACY_URL=" + c.legacyURL, "TARGET_URL=" + target, "MIGRATOR_STATE_URL=" + c.stateURL}
	p := newProgram(b, binary, fmt.Sprintf(migrationFile, `store: postgres, url: "${TARGET_URL}", table: products`), env...)
	p.begin(b)
	empty := func(url string) {
		execute(url, "TRUNCATE products")
		execute(url, "DO $$ BEGIN IF to_regclass('migrator_target.bench') IS NOT NULL THEN TRUNCATE migrator_target.bench; END IF; END $$")
	}
	const dump = `pg_dump -Fc -Z0 -t products -d "$LEGACY_URL" | pg_restore --clean --if-exists -d "$TARGET_URL"`
	dumped := shell(rows, dump, env, "pg_dump", "pg_restore")
	if rows <= backfilled {
		compare(b, fmt.Sprintf("backfill, PostgreSQL to PostgreSQL, %d rows", rows), c, []subject{
			{name: "backfill pg_dump into pg_restore", measure: dumped},
			{name: "backfill run", limit: "backfill pg_dump into pg_restore", measure: emptied(empty, target, p.backfill(rows))},
		})
	}
	dumped(b.Context(), b)
	execute(target, "TRUNCATE migrator_target.bench")
	execute(target, "INSERT INTO migrator_target.bench SELECT id::text, $1::text, false FROM products", filledAt)
	execute(target, "VACUUM ANALYZE")
	const limit = "one checksum each, both at once"
	compare(b, fmt.Sprintf("reconcile, PostgreSQL to PostgreSQL, %d rows", rows), c, []subject{
		{name: "the program, doing nothing", measure: p.idle},
		{name: "raw COPY", measure: rawCopy(c.legacyURL, rows)},
		{name: limit, measure: checksums(rows, c.legacyURL, target)},
		{name: "reconcile one way", limit: limit, measure: p.reconcile(0, "--full", "--one-way")},
		{name: "reconcile both ways", limit: limit, measure: p.reconcile(0, "--full")},
		{name: "reconcile 1 %", limit: limit, measure: p.reconcile(0, "--sample", "1")},
	})
	execute(target, "UPDATE products SET name = 'changed' WHERE id % $1::bigint = 0", rows/changed)
	compare(b, fmt.Sprintf("reconcile, PostgreSQL to PostgreSQL, %d rows, %d of them bad (3.1 s are the wait that proves them)", rows, changed), c, []subject{
		{name: "reconcile both ways, bad rows", measure: p.reconcile(changed, "--full")},
	})
}
