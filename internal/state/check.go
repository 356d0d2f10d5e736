package state

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/pgfail"
	"github.com/stranglerfig/migrator/internal/pgserver"
	"github.com/stranglerfig/migrator/internal/statedb"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/store"
)

const (
	clockSkew = 2 * time.Second // between this machine and the database, from which it is reported
)

// Check examines the state database: whether it can be reached, is a primary, has
// the schema, and gives the role what it needs. It changes nothing.
func Check(ctx context.Context, url string) []store.Check {
	cfg, err := statedb.ParseURL(url)
	if err != nil {
		return []store.Check{refused("connection", hint.With(err, hint.Hint{Do: hint.SetStateURL}))}
	}
	cfg.ConnConfig.Tracer = statedb.StatementTimeout{Within: phases.StatementWithin}
	began := time.Now()
	conn, err := pgx.ConnectConfig(ctx, cfg.ConnConfig)
	if err != nil {
		return []store.Check{refused("connection", statedb.Unreachable(err, cfg.ConnConfig, time.Since(began)))}
	}
	connected := time.Since(began)
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	began = time.Now()
	if err := statedb.RefusePooler(ctx, conn); err != nil {
		return []store.Check{refused("connection", err)}
	}
	checks, err := examine(ctx, conn)
	if err != nil {
		checks = append(checks, refused("connection", statedb.Explain(err)))
	}
	if took := time.Since(began); connected+took > statedb.SlowFrom {
		checks = append(checks, store.Check{
			Name: "speed", Result: store.Warned,
			Detail: fmt.Sprintf("slow: connecting took %s, %d checks %s; applications renew their leases through it", connected.Round(time.Millisecond), len(checks), took.Round(time.Millisecond)),
			Hint:   hint.Hint{Text: "check the server's load and the network; a lease expires when its renewal takes longer than its duration"},
		})
	}
	return checks
}

func refused(name string, err error) store.Check {
	h, _ := hint.Of(err)
	return store.Check{Name: name, Result: store.Refused, Detail: err.Error(), Hint: h}
}

func examine(ctx context.Context, conn *pgx.Conn) ([]store.Check, error) {
	var server, database, user, commit, fsync string
	var number int
	var standby, create bool
	var now time.Time
	asked := time.Now()
	if err := conn.QueryRow(ctx, `SELECT clock_timestamp()`).Scan(&now); err != nil {
		return nil, err
	}
	halfway := asked.Add(time.Since(asked) / 2)
	err := conn.QueryRow(ctx, `SELECT current_setting('server_version'), current_setting('server_version_num')::integer,
			current_database(), session_user, pg_is_in_recovery(), has_database_privilege(current_database(), 'CREATE'),
			current_setting('synchronous_commit'), current_setting('fsync')`).
		Scan(&server, &number, &database, &user, &standby, &create, &commit, &fsync)
	if err != nil {
		return nil, err
	}
	checks := []store.Check{{Name: "connection", Result: store.Good, Detail: fmt.Sprintf("PostgreSQL %s, database %s, as %s", server, database, user)}}
	add := func(name string, result store.CheckResult, remedy, detail string, args ...any) {
		checks = append(checks, store.Check{Name: name, Result: result, Detail: fmt.Sprintf(detail, args...), Hint: hint.Hint{Text: remedy}})
	}
	if number < pgfail.OldestServer {
		add("server", store.Refused, "", "PostgreSQL %s is too old: 14 or later is needed", server)
	}
	if standby {
		add("primary", store.Refused, "the URL of the primary, or target_session_attrs=read-write in it", "this server is a hot standby and takes no writes")
	} else {
		add("primary", store.Good, "", "it takes writes")
	}
	checks = append(checks, schemaChecks(ctx, conn, user, create)...)
	open, err := openToAll(ctx, conn)
	if err != nil {
		return checks, err
	}
	if open {
		add("connect", store.Warned, "REVOKE CONNECT ON DATABASE "+pgx.Identifier{database}.Sanitize()+" FROM PUBLIC, after GRANT CONNECT to the roles that need it",
			"every role of the server may connect, and so take the locks that a move or a leader waits for")
	} else {
		add("connect", store.Good, "", "only roles that were granted it may connect")
	}
	if skew := now.Sub(halfway).Abs(); skew > clockSkew {
		add("clock", store.Warned, "NTP on both machines", "the database's clock differs from this machine's by %s; leases use the database's clock", skew.Round(time.Millisecond))
	} else {
		add("clock", store.Good, "", "within %s of this machine's", clockSkew)
	}
	room, err := pgserver.Check(ctx, conn)
	if checks = append(checks, room...); err != nil {
		return checks, err
	}
	if commit == "off" || fsync == "off" {
		add("durability", store.Warned, "synchronous_commit = on and fsync = on",
			"synchronous_commit is %s and fsync %s: a crash of the server may lose acknowledged transitions and journalled keys", commit, fsync)
	}
	return checks, nil
}

// openToAll: whether PUBLIC may connect to the database. Advisory locks have no privilege of their own:
// who connects may take any.
func openToAll(ctx context.Context, q statedb.Querier) (open bool, err error) {
	err = q.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_database d, aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a
		WHERE d.datname = current_database() AND a.grantee = 0 AND a.privilege_type = 'CONNECT')`).Scan(&open)
	return open, err
}

func schemaChecks(ctx context.Context, conn *pgx.Conn, user string, create bool) []store.Check {
	_, err := checkVersion(ctx, conn, binaryVersion())
	switch {
	case errors.Is(err, statedb.ErrNoSchema) && !create:
		return []store.Check{{
			Name: "schema", Result: store.Refused,
			Detail: fmt.Sprintf("there is no schema migrator, and %s may not create one", user),
			Hint:   hint.Hint{Do: hint.Init, Text: "after GRANT CREATE ON DATABASE ... TO " + pgx.Identifier{user}.Sanitize()},
		}}
	case errors.Is(err, statedb.ErrNoSchema):
		return []store.Check{{Name: "schema", Result: store.Refused, Detail: "there is no schema migrator yet", Hint: hint.Hint{Do: hint.Init}}}
	case err != nil:
		return []store.Check{refused("schema", err)}
	}
	checks := []store.Check{{Name: "schema", Result: store.Good, Detail: fmt.Sprintf("version %d", binaryVersion())}}
	var lacks []string
	// What only a grant as an operator gives, and what any gives.
	rows, err := conn.Query(ctx, `SELECT t.name || ' (SELECT)' FROM unnest(ARRAY['migrations', 'epochs', 'history', 'leases', 'journal', 'backfills', 'reconcile_runs']) t (name)
		WHERE NOT has_table_privilege('migrator.' || t.name, 'SELECT')
		UNION ALL SELECT t.name || ' (INSERT)' FROM unnest(ARRAY['evaluations', 'outbox', 'reconcile_jobs']) t (name)
		WHERE NOT has_any_column_privilege('migrator.' || t.name, 'INSERT')
		UNION ALL SELECT 'the functions of an operator' WHERE NOT has_function_privilege('migrator.prune(text)', 'EXECUTE')
		ORDER BY 1`)
	if err == nil {
		lacks, err = pgx.CollectRows(rows, pgx.RowTo[string])
	}
	switch {
	case err != nil:
		return append(checks, refused("privileges", statedb.Explain(err)))
	case len(lacks) > 0:
		return append(checks, store.Check{
			Name: "privileges", Result: store.Refused,
			Detail: fmt.Sprintf("%s lacks privileges: %s", user, lacks[0]), Hint: hint.Hint{Do: hint.GrantOperator, Of: []string{user}, Text: "as the role that owns the schema"},
		})
	}
	return append(checks, store.Check{Name: "privileges", Result: store.Good, Detail: "it may do what an operator does"})
}
