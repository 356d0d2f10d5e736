package statedb

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/pgfail"
)

// poolerTries is how often RefusePooler looks: other clients of a pool may take the session that it
// waits to see.
const poolerTries = 5

// RefusePooler returns an error if a pooler gives the session of conn to others between its
// transactions. Advisory locks, notifications and settings belong to a session: through such a
// pooler no process would lead, and a job could run twice.
//
// A pooler is seen by the process id, which it makes up for its clients. So without one this is one
// short query.
func RefusePooler(ctx context.Context, conn *pgx.Conn) error {
	pid, err := backend(ctx, conn)
	if err != nil {
		return Unreachable(err, conn.Config(), 0)
	}
	if pid == conn.PgConn().PID() {
		return nil
	}
	other, err := pgx.ConnectConfig(ctx, conn.Config().Copy())
	if err != nil {
		return Unreachable(err, conn.Config(), 0)
	}
	defer func() { _ = other.Close(context.WithoutCancel(ctx)) }()
	for range poolerTries {
		// Either the open transaction has the session that conn had, or conn gets another one.
		if _, err := other.Exec(ctx, "BEGIN", pgx.QueryExecModeSimpleProtocol); err != nil {
			return isPooler(conn, err) // it may allow no transaction at all
		}
		theirs, err := backend(ctx, other)
		if err != nil {
			return Unreachable(err, conn.Config(), 0)
		}
		again, err := backend(ctx, conn)
		if err != nil {
			return Unreachable(err, conn.Config(), 0)
		}
		if _, err := other.Exec(ctx, "ROLLBACK", pgx.QueryExecModeSimpleProtocol); err != nil {
			return Unreachable(err, conn.Config(), 0)
		}
		if theirs == pid || again != pid {
			return isPooler(conn, nil)
		}
	}
	return nil
}

// backend is the process id of the session that takes the next transaction. The simple protocol
// leaves no prepared statement behind, which another client would run into.
func backend(ctx context.Context, conn *pgx.Conn) (pid uint32, err error) {
	var n int64
	err = conn.QueryRow(ctx, "SELECT pg_backend_pid()", pgx.QueryExecModeSimpleProtocol).Scan(&n)
	return uint32(n), err
}

func isPooler(conn *pgx.Conn, cause error) error {
	f, _ := hint.Row(hint.PostgreSQL, "pooler")
	err := fmt.Errorf("%w (%s): it %s", ErrWrongURL, pgfail.Address(conn.Config()), f.What)
	if cause != nil {
		err = fmt.Errorf("%w: %w", err, cause)
	}
	return hint.Foreign(err, f, f.Remedy(hint.StateURL))
}
