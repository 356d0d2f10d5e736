package statedb

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/pgfail"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
)

// ErrURL refuses a URL that can't be one of a PostgreSQL database.
var ErrURL = errors.New("the state database's URL can't be read; want postgres://user:password@host:5432/database, with special characters in the password %-encoded")

// ParseURL never repeats the URL in its errors: in one that can't be parsed, any part may
// be the password.
func ParseURL(url string) (*pgxpool.Config, error) {
	if url == "" {
		return nil, hint.Errorf(hint.Hint{Do: hint.SetStateURL}, "no URL of the state database is given; want postgres://user:password@host:5432/database")
	}
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil || record.SplitsPassword(url) {
		return nil, ErrURL
	}
	if _, named := cfg.ConnConfig.RuntimeParams["application_name"]; !named {
		cfg.ConnConfig.RuntimeParams["application_name"] = "migrator"
	}
	if cfg.ConnConfig.ConnectTimeout == 0 {
		cfg.ConnConfig.ConnectTimeout = phases.ConnectWithin
	}
	cfg.ConnConfig.AfterConnect = prepareSession
	return cfg, nil
}

// prepareSession sets up each session of the state database, also those that are made with a copy of the configuration.
// The planner takes statements over many small tables as expensive: with the server's default, jit = on, the one that
// reads a migration's status is compiled for seconds, at each call, and runs for a millisecond. A startup parameter would
// be refused by PgBouncer. A single statement has the default isolation, and one that has waited for a lock must see
// what was committed meanwhile, whatever the role's or the database's default is.
func prepareSession(ctx context.Context, conn *pgconn.PgConn) error {
	if isOld(conn.ParameterStatus("server_version")) {
		return nil // RefuseOld refuses it, before the first statement
	}
	return conn.Exec(ctx, `SET jit = off; SET default_transaction_isolation = 'read committed'`).Close()
}

// Connect opens a pool and makes one connection; its errors explain why that failed.
func Connect(ctx context.Context, cfg *pgxpool.Config) (*pgxpool.Pool, error) {
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("connect to the state database: %w", err)
	}
	began := time.Now()
	conn, err := pool.Acquire(ctx)
	if err != nil {
		pool.Close()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, Unreachable(err, cfg.ConnConfig, time.Since(began))
	}
	if err = RefuseOld(conn.Conn()); err == nil {
		err = RefusePooler(ctx, conn.Conn())
	}
	conn.Release()
	if err != nil {
		pool.Close()
		return nil, err
	}
	return pool, nil
}

// Explain adds to an error of the database what it means here, and a hint.
func Explain(err error) error { return ExplainFor(err, hint.GrantOperator) }

// ExplainFor is Explain for a role that needs another grant than an operator's.
func ExplainFor(err error, grant hint.Action) error {
	if err == nil {
		return nil
	}
	if explained := broken(err); explained != nil {
		return explained
	}
	switch pgfail.SQLState(err) {
	case pgfail.UndefinedTable, pgfail.UndefinedFunction, pgfail.UndefinedSchema:
		return fmt.Errorf("%w: %w", err, ErrNoSchema)
	case pgfail.NoPrivilege:
		var pg *pgconn.PgError
		if errors.As(err, &pg) && strings.Contains(pg.Message, "; try: ") { // of migrator.require
			return notAllowed(pg)
		}
		return hint.Errorf(hint.Hint{Do: grant, Text: "as the role that owns the schema"}, "the role lacks a privilege in the state database: %w", err)
	case codeNoMember, codeTwoPeople:
		var pg *pgconn.PgError
		if errors.As(err, &pg) {
			return notAllowed(pg)
		}
	case pgfail.ReadOnly, pgfail.NotSupported:
		return hint.Errorf(hint.Hint{Text: "the URL of the primary, or target_session_attrs=read-write and all hosts in it, or wait until the standby is promoted"},
			"the state database is read-only (a standby, default_transaction_read_only is on, or it is being failed over): nothing was changed: %w", err)
	}
	return err
}

// ReadCommitted is the isolation under which a statement sees what was committed
// while it waited for a lock. Decisions made under a lock rest on it, whatever the
// database's default is. It asks for no access mode: a state that was set read-only
// (default_transaction_read_only), as before a move to another server, takes no writes.
var ReadCommitted = pgx.TxOptions{IsoLevel: pgx.ReadCommitted}

// RepeatableRead is the isolation under which all reads see one moment.
var RepeatableRead = pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}

// Querier is a pool, a connection or a transaction.
type Querier interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}
