package postgres

import (
	"bufio"
	"context"
	"io"
	"net"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/pgfail"
	"github.com/stranglerfig/migrator/record"
)

// readWholeTables runs do in a transaction whose statements may read whole tables.
func readWholeTables(ctx context.Context, pool *pgxpool.Pool, do func(pgx.Tx) error) error {
	return inTx(ctx, pool, pgx.ReadOnly, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SET LOCAL enable_seqscan = on; SET LOCAL enable_hashjoin = on; SET LOCAL enable_mergejoin = on"); err != nil {
			return err
		}
		return do(tx)
	})
}

// lowWaterBytes is how many bytes a read waits for once setReadLowWater is on.
const lowWaterBytes = 32 << 10

// connect opens a pool and pings the server. side is "legacy" or "target", for errors,
// which never contain the URL: it may hold a password.
func connect(ctx context.Context, side, url string) (*pgxpool.Pool, error) {
	if url == "" {
		return nil, hint.With(record.URLError("no URL for the "+side+" PostgreSQL"), hint.Hint{Text: "set " + side + ".url or " + side + ".url_file in the migration file"})
	}
	config, err := pgxpool.ParseConfig(url)
	if err != nil || record.SplitsPassword(url) {
		return nil, hint.With(record.URLError("the URL of the "+side+" PostgreSQL can't be read"),
			hint.Hint{Text: "write it as postgres://user:password@host:5432/database, with special characters in the password %-encoded"})
	}
	withSessionSettings(config, side)
	if config.ConnConfig.RuntimeParams["application_name"] == "" {
		config.ConnConfig.RuntimeParams["application_name"] = "migrator"
	}
	dial := config.ConnConfig.DialFunc
	config.ConnConfig.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return withLowWater(conn), nil
	}
	config.ConnConfig.BuildFrontend = func(r io.Reader, w io.Writer) *pgproto3.Frontend {
		return pgproto3.NewFrontend(pgfail.Withhold(bufio.NewReaderSize(r, 2*lowWaterBytes), lateMark), w)
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, pgfail.Unreachable(err, "the "+side+" PostgreSQL", side+".url in the migration file", config.ConnConfig)
	}
	if err := pool.Ping(ctx); err != nil {
		pool.Close()
		return nil, pgfail.Unreachable(err, "the "+side+" PostgreSQL", side+".url in the migration file", config.ConnConfig)
	}
	return pool, nil
}

// textResults requests every column as the text that the server prints.
var textResults = pgx.QueryResultFormats{pgx.TextFormatCode}

// SQLSTATEs that this package distinguishes.
const (
	stateLockNotAvailable  = "55P03"
	stateDeadlock          = "40P01"
	stateSerialization     = "40001"
	statePrivilege         = "42501"
	stateUndefinedTable    = "42P01"
	stateUndefinedFunction = "42883"
	stateUndefinedObject   = "42704"
	stateNoSchema          = "3F000"
	stateUnique            = "23505"
	stateExclusion         = "23P01"
	stateCanceled          = "57014"
)

func hasState(err error, states ...string) bool {
	return slices.Contains(states, pgfail.SQLState(err))
}

// refusedValue reports whether the server could not read or store a value: data
// exceptions and violated constraints, which concern one row.
func refusedValue(err error) bool {
	state := pgfail.SQLState(err)
	return len(state) == 5 && (state[:2] == "22" || state[:2] == "23") || ofARow(err)
}

// inTx runs do in a read-committed transaction. Each statement sees what was
// committed before it began; the order of locks and reads in this package relies on that.
func inTx(ctx context.Context, pool *pgxpool.Pool, access pgx.TxAccessMode, do func(pgx.Tx) error) error {
	return pgx.BeginTxFunc(ctx, pool, pgx.TxOptions{IsoLevel: pgx.ReadCommitted, AccessMode: access}, do)
}

// durably makes the transaction's commit return only once it is on this server's disk, whatever
// the role's synchronous_commit is. It does not wait for standbys: with a synchronous one that is
// away, a commit would wait without end, holding its locks.
func durably(ctx context.Context, tx pgx.Tx) error {
	_, err := tx.Exec(ctx, "SET LOCAL synchronous_commit = local")
	return err
}
