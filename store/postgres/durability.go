package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/oneline"
	"github.com/stranglerfig/migrator/store"
)

// checkDurability warns of settings under which the server loses writes that it acknowledged: those
// of the server, of this role's sessions, and of any other role or database that may write the
// table.
func (f *findings) checkDurability(ctx context.Context, pool *pgxpool.Pool, side string) error {
	before := len(*f)
	rows, err := pool.Query(ctx, `
		SELECT 1 AS rank, name || ' is off', 'ALTER SYSTEM SET ' || name || ' = on; SELECT pg_reload_conf() (or so in the parameters of a managed server)'
		FROM pg_settings WHERE name IN ('fsync', 'full_page_writes') AND setting = 'off'
		UNION ALL
		SELECT 2, 'synchronous_commit is off' || CASE source WHEN 'client' THEN ' in ' || $1 || '.url' ELSE '' END,
		       CASE source WHEN 'client' THEN 'take it out of ' || $1 || '.url' ELSE 'ALTER SYSTEM SET synchronous_commit = on; SELECT pg_reload_conf() (or so in the parameters of a managed server)' END
		FROM pg_settings WHERE name = 'synchronous_commit' AND setting = 'off' AND source NOT IN ('database', 'user', 'database user')
		UNION ALL
		SELECT 3, 'synchronous_commit is off for ' || who, 'ALTER ' || who || ' RESET synchronous_commit'
		FROM (SELECT CASE WHEN s.setrole = 0 THEN 'DATABASE ' || quote_ident(d.datname)
		                  ELSE 'ROLE ' || quote_ident(r.rolname) || CASE WHEN s.setdatabase <> 0 THEN format(' IN DATABASE %I', d.datname) ELSE '' END END AS who
		      FROM pg_db_role_setting s LEFT JOIN pg_database d ON d.oid = s.setdatabase LEFT JOIN pg_roles r ON r.oid = s.setrole
		      WHERE s.setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
		        AND EXISTS (SELECT FROM unnest(s.setconfig) c WHERE lower(c) IN ('synchronous_commit=off', 'synchronous_commit=false', 'synchronous_commit=no', 'synchronous_commit=0'))
		      ORDER BY 1 LIMIT 10) AS settings
		ORDER BY 1, 2`, side)
	if err != nil {
		return err
	}
	var rank int
	var detail, remedy string
	_, err = pgx.ForEachRow(rows, []any{&rank, &detail, &remedy}, func() error {
		*f = append(*f, store.Check{
			Name: side + "-durability", Result: store.Warned, Hint: hint.Hint{Text: remedy},
			Detail: fmt.Sprintf("%s: a crash may lose writes that were acknowledged, and then the two stores differ", oneline.Escape(detail)),
		})
		return nil
	})
	if err == nil && len(*f) == before {
		f.good(side+"-durability", "fsync, full_page_writes and synchronous_commit are on")
	}
	return err
}
