package postgres

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/store"
)

var _ store.LossFinder = (*Legacy)(nil)

// aliveSQL makes the table of legacy's marks. Unlogged: PostgreSQL empties it when it recovers from
// a crash, and a promoted standby or a restored backup never had its rows. What lost transactions
// lost the mark too, whatever its log says; a clean restart keeps it.
const aliveSQL = `
CREATE UNLOGGED TABLE IF NOT EXISTS migrator_legacy.alive (
	name text PRIMARY KEY,
	incarnation text NOT NULL
);
COMMENT ON TABLE migrator_legacy.alive IS 'unlogged on purpose: a row that is gone shows a crash, a failover or a restore';
`

// LookForLoss implements store.LossFinder. seen is the server's identifier, timeline, position and
// mark.
func (l *Legacy) LookForLoss(ctx context.Context, seen string) (now, lost string, err error) {
	was := parseServer(seen)
	is, behind, err := l.serverState(ctx, was.position)
	if err != nil {
		return "", "", fmt.Errorf("look whether legacy's server has lost transactions: %w", asNotInstalled(err))
	}
	switch {
	case seen == "":
	case was.mark != "" && is.mark != was.mark:
		lost = "its unlogged mark is gone: it crashed, was failed over or restored"
	case is.system != was.system:
		lost = fmt.Sprintf("its system identifier is %s, and was %s: another server, upgraded or restored", is.system, was.system)
	case is.timeline != was.timeline:
		lost = fmt.Sprintf("it is on timeline %s, and was on %s: it was failed over or restored", is.timeline, was.timeline)
	case behind:
		lost = fmt.Sprintf("its log is at %s, and was at %s before", is.position, was.position)
	}
	if is.mark == "" {
		// Without the privilege it is watched without a mark.
		if is.mark, err = l.placeMark(ctx); err != nil && !hasState(err, statePrivilege) {
			return "", "", err
		}
	}
	return is.String(), lost, nil
}

// serverState is what LookForLoss compares.
type serverState struct {
	system, timeline, position, mark string
}

func (s serverState) String() string {
	return strings.Join([]string{s.system, s.timeline, s.position, s.mark}, " ")
}

// parseServer is the inverse of String; a zero state for any other text.
func parseServer(text string) (s serverState) {
	if parts := strings.Split(text, " "); len(parts) == 4 {
		s = serverState{parts[0], parts[1], parts[2], parts[3]}
	}
	return s
}

// serverState reads the present state, and whether its position is below an earlier one.
func (l *Legacy) serverState(ctx context.Context, earlier string) (s serverState, behind bool, err error) {
	var readable bool
	err = l.pool.QueryRow(ctx, `SELECT (('x' || left(pg_walfile_name('0/1'), 8))::bit(32)::int8)::text, at.lsn::text, coalesce(at.lsn < nullif($2, '')::pg_lsn, false),
			coalesce((SELECT incarnation FROM migrator_legacy.alive WHERE name = $1), ''), has_function_privilege('pg_control_system()', 'EXECUTE')
		FROM (SELECT pg_current_wal_insert_lsn() AS lsn) at`, l.name, earlier).
		Scan(&s.timeline, &s.position, &behind, &s.mark, &readable)
	if err != nil {
		return s, false, err
	}
	s.system = "unknown"
	if readable {
		err = l.pool.QueryRow(ctx, "SELECT system_identifier::text FROM pg_control_system()").Scan(&s.system)
	}
	return s, behind, err
}

// placeMark places a mark where there is none, and returns the one that is there then.
func (l *Legacy) placeMark(ctx context.Context) (mark string, err error) {
	err = l.pool.QueryRow(ctx, `INSERT INTO migrator_legacy.alive (name, incarnation) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING RETURNING incarnation`,
		l.name, rand.Text()).Scan(&mark)
	if errors.Is(err, pgx.ErrNoRows) { // another process was faster
		err = l.pool.QueryRow(ctx, `SELECT incarnation FROM migrator_legacy.alive WHERE name = $1`, l.name).Scan(&mark)
	}
	if err != nil {
		return "", fmt.Errorf("place legacy's mark: %w", err)
	}
	return mark, nil
}
