package postgres

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/stranglerfig/migrator/store"
)

var (
	_ store.LossFinder = (*Legacy)(nil)
	_ store.LossFinder = (*Target)(nil)
)

// The tables of marks. No migration's table of versions has a blank in its name.
const (
	legacyAlive = "migrator_legacy.alive"
	targetAlive = `migrator_target."migrator alive"`
)

// aliveSQL makes the table of a database's marks. Unlogged: PostgreSQL empties it when it recovers from
// a crash, and a promoted standby or a restored backup never had its rows. What lost transactions
// lost the mark too, whatever its log says; a clean restart keeps it.
func aliveSQL(table string) string {
	return `
CREATE UNLOGGED TABLE IF NOT EXISTS ` + table + ` (
	name text PRIMARY KEY,
	incarnation text NOT NULL
);
COMMENT ON TABLE ` + table + ` IS 'unlogged on purpose: a row that is gone shows a crash, a failover or a restore';
`
}

// LookForLoss implements store.LossFinder.
func (l *Legacy) LookForLoss(ctx context.Context, seen string) (now, lost string, err error) {
	now, lost, err = lookForLoss(ctx, l.pool, legacyAlive, l.name, seen)
	if err != nil {
		err = fmt.Errorf("look whether legacy's server has lost transactions: %w", asNotInstalled(err))
	}
	return now, lost, err
}

// LookForLoss implements store.LossFinder.
func (t *Target) LookForLoss(ctx context.Context, seen string) (now, lost string, err error) {
	now, lost, err = lookForLoss(ctx, t.pool, targetAlive, t.migration, seen)
	if err != nil {
		err = fmt.Errorf("look whether the target's server has lost transactions: %w", asUnprepared(err))
	}
	return now, lost, err
}

// lookForLoss compares the server's identifier, timeline, position and mark with what they were.
func lookForLoss(ctx context.Context, pool *pgxpool.Pool, table, name, seen string) (now, lost string, err error) {
	was := parseServer(seen)
	is, behind, err := readServer(ctx, pool, table, name, was.position)
	switch {
	case err != nil:
		return "", "", err
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
		if is.mark, err = placeMark(ctx, pool, table, name); err != nil && !hasState(err, statePrivilege) {
			return "", "", err
		}
	}
	return is.String(), lost, nil
}

// serverState is what lookForLoss compares.
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

// readServer reads the present state, and whether its position is below an earlier one.
func readServer(ctx context.Context, pool *pgxpool.Pool, table, name, earlier string) (s serverState, behind bool, err error) {
	var readable bool
	err = pool.QueryRow(ctx, `SELECT (('x' || left(pg_walfile_name('0/1'), 8))::bit(32)::int8)::text, at.lsn::text, coalesce(at.lsn < nullif($2, '')::pg_lsn, false),
			coalesce((SELECT incarnation FROM `+table+` WHERE name = $1), ''), has_function_privilege('pg_control_system()', 'EXECUTE')
		FROM (SELECT pg_current_wal_insert_lsn() AS lsn) at`, name, earlier).
		Scan(&s.timeline, &s.position, &behind, &s.mark, &readable)
	if err != nil {
		return s, false, err
	}
	s.system = "unknown"
	if readable {
		err = pool.QueryRow(ctx, "SELECT system_identifier::text FROM pg_control_system()").Scan(&s.system)
	}
	return s, behind, err
}

// placeMark places a mark where there is none, and returns the one that is there then.
func placeMark(ctx context.Context, pool *pgxpool.Pool, table, name string) (mark string, err error) {
	err = pool.QueryRow(ctx, `INSERT INTO `+table+` (name, incarnation) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING RETURNING incarnation`,
		name, rand.Text()).Scan(&mark)
	if errors.Is(err, pgx.ErrNoRows) { // another process was faster
		err = pool.QueryRow(ctx, `SELECT incarnation FROM `+table+` WHERE name = $1`, name).Scan(&mark)
	}
	if err != nil {
		return "", fmt.Errorf("place the mark: %w", err)
	}
	return mark, nil
}
