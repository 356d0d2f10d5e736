package statedb

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/stranglerfig/migrator/internal/hint"
)

// blockedAfter is how long a lock may be waited for before the session that has it is named.
const blockedAfter = 2 * time.Second

// Blocker is a session that has a lock which another one waits for. Every session may take the
// advisory locks, so it need not be migrator's.
type Blocker struct {
	PID         int32
	Role        string
	Application string
	Since       time.Time // of its transaction, else of its session; zero: not shown to this role
}

// String names it, "" for none.
func (b Blocker) String() string {
	if b.PID == 0 {
		return ""
	}
	since := ""
	if !b.Since.IsZero() {
		since = ", since " + b.Since.UTC().Format(time.RFC3339)
	}
	return fmt.Sprintf("database session %d of the role %q (application %q%s)", b.PID, b.Role, b.Application, since)
}

// Hint is the way to end it.
func (b Blocker) Hint() hint.Hint {
	return hint.Hint{Text: fmt.Sprintf("SELECT pg_terminate_backend(%d) in the state database, as its role or a superuser, once you know what it is", b.PID)}
}

// Blocked reports a session that keeps work under ctx waiting.
func Blocked(ctx context.Context, b Blocker) { hint.Waiting(ctx, b.String(), b.Hint()) }

const blockerColumns = `a.pid, coalesce(a.usename::text, ''), coalesce(a.application_name, ''), coalesce(a.xact_start, a.backend_start)`

func scanBlocker(row pgx.CollectableRow) (b Blocker, err error) {
	var since *time.Time
	err = row.Scan(&b.PID, &b.Role, &b.Application, &since)
	b.Since = OrZero(since)
	return b, err
}

// watchBlocker looks from another connection, as long as the session waits, for the one that has
// what it waits for. end returns the one that was seen last.
func watchBlocker(ctx context.Context, pool *pgxpool.Pool, session uint32) (end func() Blocker) {
	watching, stop := context.WithCancel(ctx)
	last := make(chan Blocker, 1)
	go func() {
		var seen Blocker
		for Sleep(watching, blockedAfter) == nil {
			rows, err := pool.Query(watching, `SELECT `+blockerColumns+` FROM unnest(pg_blocking_pids($1)) p (pid) JOIN pg_stat_activity a USING (pid) ORDER BY 4 LIMIT 1`, int32(session))
			if err != nil {
				continue
			}
			b, err := pgx.CollectExactlyOneRow(rows, scanBlocker)
			if err == nil && b.PID != seen.PID {
				seen = b
				Blocked(ctx, b)
			}
		}
		last <- seen
	}()
	return func() Blocker {
		stop()
		return <-last
	}
}

// named adds to an error of a wait which session it waited for.
func named(err error, b Blocker) error {
	if err == nil || b.PID == 0 {
		return err
	}
	return hint.Errorf(b.Hint(), "%w; it waited for %s", err, b)
}

// LockHolder returns the session that has an advisory lock by name; none if it is not known.
func LockHolder(ctx context.Context, q Querier, lock string) (Blocker, error) {
	rows, err := q.Query(ctx, `SELECT `+blockerColumns+`
		FROM pg_locks l JOIN pg_stat_activity a USING (pid), hashtextextended($1, 0) h
		WHERE l.locktype = 'advisory' AND l.objsubid = 1 AND l.granted
		  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
		  AND l.classid::bigint = (h >> 32) & 4294967295 AND l.objid::bigint = h & 4294967295
		LIMIT 1`, lock)
	if err != nil {
		return Blocker{}, err
	}
	b, err := pgx.CollectExactlyOneRow(rows, scanBlocker)
	if errors.Is(err, pgx.ErrNoRows) {
		return Blocker{}, nil
	}
	return b, err
}
