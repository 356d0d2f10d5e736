package dualtest

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/store/postgres"
)

// probe disturbs the writes of a PostgreSQL legacy store.
type probe struct {
	pool      *pgxpool.Pool
	migration string
	table     string // quoted
	versions  bool   // from the write-ahead log, and not from a column
}

func newProbe(ctx context.Context, m *migration.Config) (*probe, error) {
	pool, err := pgxpool.New(ctx, m.Legacy.URL)
	if err != nil {
		return nil, err
	}
	p := &probe{pool: pool, migration: m.Name}
	if part, ok := m.Legacy.Part.(migration.VersionPart); ok {
		p.versions = part.VersionExpr(m.Name) == postgres.VersionExpr(m.Name)
	}
	// As the server resolves and quotes the name.
	if part, ok := m.Legacy.Part.(migration.NamedPart); ok {
		err = pool.QueryRow(ctx, `SELECT $1::regclass::text`, part.Names()["table"]).Scan(&p.table)
	}
	if err != nil {
		pool.Close()
		return nil, fmt.Errorf("find legacy's table: %w", err)
	}
	return p, nil
}

func (p *probe) close() { p.pool.Close() }

// refuseCommits makes every transaction fail at its COMMIT that changes the table.
func (p *probe) refuseCommits(ctx context.Context) error {
	_, err := p.pool.Exec(ctx, `CREATE OR REPLACE FUNCTION migrator_legacy.dualtest_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN RAISE EXCEPTION 'dualtest: this COMMIT fails'; END $$;
		CREATE CONSTRAINT TRIGGER dualtest_refuse AFTER INSERT OR UPDATE OR DELETE ON `+p.table+`
		DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION migrator_legacy.dualtest_refuse()`, pgx.QueryExecModeSimpleProtocol)
	return err
}

func (p *probe) allowCommits(ctx context.Context) error {
	_, err := p.pool.Exec(ctx, `DROP TRIGGER dualtest_refuse ON `+p.table+`; DROP FUNCTION migrator_legacy.dualtest_refuse()`, pgx.QueryExecModeSimpleProtocol)
	return err
}

// hold locks all rows of the table. The returned function waits until a write waits for them,
// or has ended (its result is then in the channel), and frees them.
func (p *probe) hold(ctx context.Context) (func(written <-chan error) (held, error), error) {
	tx, err := p.pool.Begin(ctx)
	if err != nil {
		return nil, err
	}
	var pid int
	err = tx.QueryRow(ctx, `SELECT pg_backend_pid()`).Scan(&pid)
	if err == nil {
		_, err = tx.Exec(ctx, `SELECT FROM `+p.table+` FOR UPDATE`)
	}
	if err != nil {
		_ = tx.Rollback(ctx)
		return nil, fmt.Errorf("lock the table's rows: %w", err)
	}
	return func(written <-chan error) (h held, failed error) {
		defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
		for !h.waited {
			if len(written) > 0 {
				return h, nil
			}
			if failed = p.pool.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE $1 = ANY (pg_blocking_pids(pid)))`, pid).Scan(&h.waited); failed != nil {
				return h, failed
			}
		}
		if p.versions {
			// The message moves the write-ahead log on: a version that was read before it is older.
			failed = tx.QueryRow(ctx, `SELECT migrator_legacy.version($1) FROM pg_logical_emit_message(true, 'dualtest', '')`, p.migration).Scan(&h.version)
		}
		if failed == nil {
			failed = tx.Commit(ctx)
		}
		return h, failed
	}, nil
}
