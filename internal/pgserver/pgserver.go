// Package pgserver checks what every PostgreSQL server runs out of: sessions, room on its disk, and
// write-ahead log that replication slots retain. It changes nothing.
package pgserver

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/oneline"
	"github.com/stranglerfig/migrator/internal/pgfail"
	"github.com/stranglerfig/migrator/store"
)

// Beginner begins transactions: a pool, or a connection.
type Beginner interface {
	BeginTx(ctx context.Context, o pgx.TxOptions) (pgx.Tx, error)
}

const (
	// sessionsWarned is the share of a limit of sessions, in per cent, from which they are short.
	sessionsWarned = 80
	// WAL that slots retain, from which it is much: of one that no receiver uses, and of any.
	unusedWarned   = 1 << 30
	retainedWarned = 10 << 30
	// spilled is how many rows the trial of the disk writes, of 14 bytes.
	spilled = 300_000
)

// Check checks a server through one connection.
func Check(ctx context.Context, db Beginner) ([]store.Check, error) {
	tx, err := db.BeginTx(ctx, pgx.TxOptions{})
	if err != nil {
		return nil, err
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	var checks []store.Check
	for _, check := range []func(context.Context, pgx.Tx) (store.Check, error){sessions, slots, disk} {
		c, err := check(ctx, tx)
		if err != nil {
			return checks, err
		}
		checks = append(checks, c)
	}
	return checks, nil
}

// sessions compares the sessions with the limits that the next one meets: of the server, the database and the
// role. A role sees all sessions, though not what they do.
func sessions(ctx context.Context, tx pgx.Tx) (store.Check, error) {
	c := store.Check{Name: "sessions", Result: store.Good}
	rows, err := tx.Query(ctx, `
		WITH s AS (SELECT datid, usesysid FROM pg_stat_activity WHERE backend_type = 'client backend')
		SELECT 'max_connections', (SELECT count(*) FROM s),
		       current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int - coalesce(current_setting('reserved_connections', true), '0')::int
		UNION ALL SELECT 'CONNECTION LIMIT of the database', (SELECT count(*) FROM s WHERE s.datid = d.oid), d.datconnlimit
		FROM pg_database d WHERE d.datname = current_database() AND d.datconnlimit >= 0
		UNION ALL SELECT 'CONNECTION LIMIT of the role ' || quote_ident(r.rolname), (SELECT count(*) FROM s WHERE s.usesysid = r.oid), r.rolconnlimit
		FROM pg_roles r WHERE r.rolname = session_user AND r.rolconnlimit >= 0`)
	if err != nil {
		return c, err
	}
	var limit string
	var used, most int64
	worst := -1.0
	_, err = pgx.ForEachRow(rows, []any{&limit, &used, &most}, func() error {
		share := float64(used) * 100 / float64(max(most, 1))
		if share > worst {
			worst = share
			c.Detail = fmt.Sprintf("sessions in use: %d of %d (%s)", used, most, oneline.Of(limit))
		}
		return nil
	})
	if err == nil && worst >= sessionsWarned {
		c.Result = store.Warned
		c.Detail += ": without one a command, a rollback too, is refused"
		c.Hint = hint.Hint{Text: "a larger limit, or fewer and smaller pools"}
	}
	return c, err
}

// slots looks for write-ahead log that replication slots retain: it fills the disk.
func slots(ctx context.Context, tx pgx.Tx) (store.Check, error) {
	c := store.Check{Name: "slots", Result: store.Good, Detail: "no replication slot retains much write-ahead log"}
	if _, err := tx.Exec(ctx, "SAVEPOINT slots"); err != nil {
		return c, err
	}
	rows, err := tx.Query(ctx, `
		SELECT slot_name::text, active, coalesce(wal_status, ''), coalesce(pg_wal_lsn_diff(
		         CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END, restart_lsn), 0)::int8
		FROM pg_replication_slots ORDER BY 4 DESC`)
	var slot, status string
	var active bool
	var retained int64
	if err == nil {
		_, err = pgx.ForEachRow(rows, []any{&slot, &active, &status, &retained}, func() error {
			if c.Result != store.Good {
				return nil
			}
			use := "in use"
			if !active {
				use = "not in use"
			}
			switch {
			case status == "lost" || status == "unreserved":
				c.Detail = fmt.Sprintf("the replication slot %q (%s) has lost write-ahead log that it needs, or is about to", oneline.Of(slot), use)
			case retained >= retainedWarned || !active && retained >= unusedWarned:
				c.Detail = fmt.Sprintf("the replication slot %q (%s) makes the server keep %.1f GiB of write-ahead log, which fills its disk", oneline.Of(slot), use, float64(retained)/(1<<30))
			default:
				return nil
			}
			c.Result = store.Warned
			c.Hint = hint.Hint{Text: "start its receiver, or drop the slot: SELECT pg_drop_replication_slot('" + strings.ReplaceAll(oneline.Of(slot), "'", "''") + "')"}
			return nil
		})
	}
	if pg := new(pgconn.PgError); errors.As(err, &pg) {
		if _, err := tx.Exec(ctx, "ROLLBACK TO SAVEPOINT slots"); err != nil {
			return c, err
		}
		return store.Check{Name: "slots", Result: store.Unchecked, Detail: "the server does not say what its replication slots retain: SQLSTATE " + pg.Code}, nil
	}
	return c, err
}

// disk lets the server write some megabytes, which are no table's: a sort's spill. That there is a bit of room
// now is all that SQL can tell.
func disk(ctx context.Context, tx pgx.Tx) (store.Check, error) {
	c := store.Check{Name: "disk", Result: store.Good, Detail: "the server could write 4 MB; how much room is left it does not say"}
	var rows int64
	_, err := tx.Exec(ctx, "SELECT set_config('work_mem', '64kB', true)")
	if err == nil {
		err = tx.QueryRow(ctx, "SELECT count(*) FROM generate_series(1, $1::int)", spilled).Scan(&rows)
	}
	switch code := pgfail.SQLState(err); code {
	case "":
		return c, err
	case pgfail.DiskFull:
		return store.Check{
			Name: "disk", Result: store.Refused, Detail: "the server's disk is full: it could not write 4 MB (SQLSTATE " + code + ")",
			Hint: hint.Hint{Text: "free disk space, and look for replication slots that retain write-ahead log"},
		}, nil
	default:
		return store.Check{Name: "disk", Result: store.Unchecked, Detail: "the server refused the trial: SQLSTATE " + code}, nil
	}
}
