package state

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/internal/failpoint"
	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/pgfail"
	"github.com/stranglerfig/migrator/internal/statedb"
)

// GrantApplication gives a role what a Fleet needs and no more: it reads routes,
// keeps leases, writes both journals, reports telemetry and may roll reads back to
// legacy. It can't move a migration anywhere else, nor write the history. Repeat it after
// Migrate.
func (s *Store) GrantApplication(ctx context.Context, role string) error {
	return s.grant(ctx, role,
		`GRANT USAGE ON SCHEMA migrator TO %s`,
		`GRANT SELECT ON migrator.migrations, migrator.epochs, `+versionTable+` TO %s`,
		`GRANT UPDATE (lockable) ON migrator.migrations TO %s`, // to lock the row
		`GRANT UPDATE (settled_at) ON migrator.epochs TO %s`,
		`GRANT SELECT, INSERT, UPDATE ON migrator.leases, migrator.journal, migrator.return_journal TO %s`,
		`GRANT INSERT ON migrator.windows TO %s`,
		`GRANT EXECUTE ON FUNCTION migrator.rescue(text, bigint, text, jsonb) TO %s`,
		`GRANT EXECUTE ON FUNCTION migrator.witness(text, bigint, text, integer, text) TO %s`,
	)
}

// GrantOperator gives a role what every method of Store needs, except Migrate and
// the grants themselves. Repeat it after Migrate.
func (s *Store) GrantOperator(ctx context.Context, role string) error {
	return s.grant(ctx, role,
		`GRANT USAGE ON SCHEMA migrator TO %s`,
		`GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA migrator TO %s`,
		`REVOKE INSERT, UPDATE, DELETE ON `+versionTable+` FROM %s`,
		`REVOKE UPDATE, DELETE ON migrator.history, migrator.approvals FROM %s`,
		`REVOKE UPDATE ON migrator.evaluations FROM %s`,
		`GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA migrator TO %s`,
		`GRANT USAGE ON SCHEMA `+statedb.QueueSchema+` TO %s`,
		`GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA `+statedb.QueueSchema+` TO %s`,
		`GRANT USAGE ON ALL SEQUENCES IN SCHEMA `+statedb.QueueSchema+` TO %s`,
		`GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA `+statedb.QueueSchema+` TO %s`,
	)
}

func (s *Store) grant(ctx context.Context, role string, statements ...string) error {
	err := pgx.BeginTxFunc(ctx, s.pool, statedb.ReadCommitted, func(tx pgx.Tx) error {
		for _, statement := range statements {
			if _, err := tx.Exec(ctx, fmt.Sprintf(statement, pgx.Identifier{role}.Sanitize())); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		failpoint.Here("state.grant.committed")
	}
	if pgfail.SQLState(err) == pgfail.UndefinedObject {
		return hint.Errorf(hint.Hint{Text: "CREATE ROLE " + pgx.Identifier{role}.Sanitize() + " LOGIN"}, "the role %q does not exist in the state database", role)
	}
	return statedb.Explain(err)
}
