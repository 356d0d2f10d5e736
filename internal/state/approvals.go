package state

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/statedb"
	"github.com/stranglerfig/migrator/phases"
)

// Approve records that who calls (the database's session_user, or a token's role) approves of entering the phase
// to, in the present epoch, under the present configuration, for ttl. The user must be
// a member of the role that the applied migration file names, or else of the given one,
// if any: *statedb.NotAllowedError otherwise.
func (s *Store) Approve(ctx context.Context, migration string, to phases.Phase, role string, ttl time.Duration, reason string) (a phases.Approval, err error) {
	if _, err := phases.ParsePhase(string(to)); err != nil {
		return a, err
	}
	if ttl <= 0 {
		return a, hint.Errorf(hint.Hint{Text: "set phases.approval.expires"}, "an approval needs a time after which it expires")
	}
	err = s.exclusive(ctx, migration, func(tx pgx.Tx) error {
		before, found, err := approvedBefore(ctx, tx, migration, to)
		if err != nil || found {
			a = before
			return err
		}
		return tx.QueryRow(ctx, `SELECT actor, to_phase, epoch, config_hash, expires_at, reason FROM migrator.approve($1, $2, $3, $4, $5)`,
			migration, string(to), role, statedb.CleanText(reason), ttl.Microseconds()).
			Scan(&a.Actor, &a.To, &a.Epoch, &a.ConfigHash, &a.Expires, &a.Reason)
	})
	return a, err
}

// approvedBefore returns the caller's own approval of the phase, if it is valid in the present epoch
// and configuration: an approval that is repeated changes nothing.
func approvedBefore(ctx context.Context, q statedb.Querier, migration string, to phases.Phase) (a phases.Approval, found bool, err error) {
	err = q.QueryRow(ctx, `SELECT a.actor, a.to_phase, a.epoch, a.config_hash, a.expires_at, a.reason
		FROM migrator.approvals a JOIN migrator.migrations m ON m.name = a.migration AND m.epoch = a.epoch AND m.config_hash = a.config_hash
		WHERE a.migration = $1 AND a.to_phase = $2 AND a.actor = `+statedb.Person(ctx)+` AND a.expires_at > clock_timestamp() ORDER BY a.id DESC LIMIT 1`,
		migration, string(to)).Scan(&a.Actor, &a.To, &a.Epoch, &a.ConfigHash, &a.Expires, &a.Reason)
	if errors.Is(err, pgx.ErrNoRows) {
		return a, false, nil
	}
	return a, err == nil, err
}

// decides returns who calls, and whether that is a member of the role that decides about the migration.
func decides(ctx context.Context, q statedb.Querier, migration string) (user string, is bool, err error) {
	err = q.QueryRow(ctx, `SELECT p.name, d.role = '' OR coalesce((SELECT pg_has_role(p.name, r.oid, 'MEMBER') FROM pg_roles r WHERE r.rolname = d.role), false)
		FROM migrator.decider($1) AS d (role), (SELECT `+statedb.Person(ctx)+`) AS p (name)`, migration).Scan(&user, &is)
	return user, is, err
}

// approvals returns those that are valid, and the expired ones of the present epoch and configuration.
func approvals(ctx context.Context, q statedb.Querier, st phases.Status, now time.Time) ([]phases.Approval, error) {
	rows, err := q.Query(ctx, `SELECT actor, to_phase, epoch, config_hash, expires_at, reason FROM migrator.approvals
		WHERE migration = $1 AND (expires_at > $2 OR epoch = $3 AND config_hash = $4) ORDER BY id`, st.Migration, now, st.Route.Epoch, st.ConfigHash)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (a phases.Approval, err error) {
		err = row.Scan(&a.Actor, &a.To, &a.Epoch, &a.ConfigHash, &a.Expires, &a.Reason)
		return a, err
	})
}

// Members returns the roles of the state database that may log in and are members of the
// role. Superusers, who are members of every role, are left out.
func (s *Store) Members(ctx context.Context, role string) ([]string, error) {
	rows, err := s.pool.Query(ctx, `SELECT m.rolname FROM pg_roles r, pg_roles m
		WHERE r.rolname = $1 AND m.rolcanlogin AND NOT m.rolsuper AND pg_has_role(m.oid, r.oid, 'MEMBER') ORDER BY 1`, role)
	if err != nil {
		return nil, statedb.Explain(err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	return names, statedb.Explain(err)
}

// HasRole reports whether the state database has the role.
func (s *Store) HasRole(ctx context.Context, role string) (has bool, err error) {
	err = s.pool.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)`, role).Scan(&has)
	return has, statedb.Explain(err)
}
