package state

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/phases"
)

// Approve records that the database's session_user approves of entering the phase
// to, in the present epoch, under the present configuration, for ttl. When role is
// not empty the user must be a member of it.
func (s *Store) Approve(ctx context.Context, migration string, to phases.Phase, role string, ttl time.Duration, reason string) (a phases.Approval, err error) {
	if _, err := phases.ParsePhase(string(to)); err != nil {
		return a, err
	}
	if ttl <= 0 {
		return a, errors.New("an approval must be good for some time; set phases.approval.expires")
	}
	err = s.alone(ctx, migration, func(tx pgx.Tx) error {
		if role != "" {
			if err := member(ctx, tx, role); err != nil {
				return err
			}
		}
		err := tx.QueryRow(ctx, `INSERT INTO migrator.approvals (migration, to_phase, epoch, config_hash, role, reason, expires_at)
			SELECT name, $2, epoch, config_hash, $3, $4, clock_timestamp() + $5::bigint * interval '1 microsecond'
			FROM migrator.migrations WHERE name = $1
			RETURNING actor, to_phase, epoch, config_hash, expires_at, reason`,
			migration, string(to), role, clean(reason), ttl.Microseconds()).
			Scan(&a.Actor, &a.To, &a.Epoch, &a.ConfigHash, &a.Expires, &a.Reason)
		if err != nil {
			return err
		}
		return note(ctx, tx, migration, phases.CauseApprove, reason, map[string]any{"to": to, "role": role, "expires": a.Expires})
	})
	return a, err
}

func member(ctx context.Context, tx pgx.Tx, role string) error {
	var user string
	var exists, is bool
	err := tx.QueryRow(ctx, `SELECT session_user, EXISTS (SELECT FROM pg_roles WHERE rolname = $1)`, role).Scan(&user, &exists)
	if err != nil {
		return err
	}
	if !exists {
		return fmt.Errorf("the role %q that may approve does not exist in the state database; try: CREATE ROLE %s; GRANT %s TO the people who decide",
			role, pgx.Identifier{role}.Sanitize(), pgx.Identifier{role}.Sanitize())
	}
	if err := tx.QueryRow(ctx, `SELECT pg_has_role(session_user, $1, 'MEMBER')`, role).Scan(&is); err != nil {
		return err
	}
	if !is {
		return fmt.Errorf("%s is not a member of the role %s: only its members may approve; connect to the state database as one of them", user, role)
	}
	return nil
}

func approvals(ctx context.Context, q querier, st phases.Standing, now time.Time) ([]phases.Approval, error) {
	rows, err := q.Query(ctx, `SELECT actor, to_phase, epoch, config_hash, expires_at, reason FROM migrator.approvals
		WHERE migration = $1 AND expires_at > $2 ORDER BY id`, st.Migration, now)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (a phases.Approval, err error) {
		err = row.Scan(&a.Actor, &a.To, &a.Epoch, &a.ConfigHash, &a.Expires, &a.Reason)
		return a, err
	})
}
