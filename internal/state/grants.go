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

// Kind is what a role is for.
type Kind string

// Kinds of grants: the values of migrator.grants.
const (
	Application Kind = "application" // what a Fleet needs, and no more
	Operator    Kind = "operator"    // what every method of Store needs, except Migrate and Grant
)

// Grant is a role's right to be of a kind, for some migrations.
type Grant struct {
	Kind       Kind
	Role       string
	Migrations []string // none: all, also those to come
}

// rights are the statements that give a role the privileges of a kind in the database. What they
// give is the same for every migration: the functions look into migrator.grants.
func rights(k Kind) []string {
	switch k {
	case Application:
		return []string{
			`GRANT USAGE ON SCHEMA migrator TO %s`,
			`GRANT EXECUTE ON FUNCTION migrator.join_fleet(text, text, text, text, bigint, text, text), migrator.renew_lease(text, text, bigint, bigint),
				migrator.leave_fleet(text, text), migrator.settle(text), migrator.journal_keys(text, bytea[], text[], bigint[], text[]),
				migrator.has_journaled(text, bytea), migrator.return_keys(text, bigint, bytea[]),
				migrator.observe(text, text, text[], bigint[], text[], bigint[], text[], bigint[], bigint[], bigint[], bytea[]),
				migrator.report_fault(text, text, text, bigint, bigint, boolean), migrator.route(text), migrator.applied_file(text),
				migrator.fleet_migrations(), migrator.take_reads_back(text, bigint, text), migrator.witness(text, bigint, text, integer, text) TO %s`,
		}
	case Operator:
		return []string{
			`GRANT USAGE ON SCHEMA migrator TO %s`,
			`GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA migrator TO %s`,
			`REVOKE INSERT, UPDATE, DELETE ON ` + versionTable + `, migrator.grants FROM %s`,
			`REVOKE UPDATE, DELETE ON migrator.history, migrator.approvals FROM %s`,
			`REVOKE UPDATE ON migrator.evaluations FROM %s`,
			`GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA migrator TO %s`,
			`GRANT USAGE ON SCHEMA ` + statedb.QueueSchema + ` TO %s`,
			`GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA ` + statedb.QueueSchema + ` TO %s`,
			`GRANT USAGE ON ALL SEQUENCES IN SCHEMA ` + statedb.QueueSchema + ` TO %s`,
			`GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA ` + statedb.QueueSchema + ` TO %s`,
		}
	}
	return nil
}

// Grant gives a role the privileges of a kind, and notes for which migrations it has them. A grant
// that names migrations adds them, and ends one for all migrations; one that names none is for all.
// Only the schema's owner may grant. Repeat it after Migrate.
func (s *Store) Grant(ctx context.Context, g Grant) error {
	statements := rights(g.Kind)
	if statements == nil {
		return fmt.Errorf("there is no kind of grant %q", g.Kind)
	}
	role := pgx.Identifier{g.Role}.Sanitize()
	err := pgx.BeginTxFunc(ctx, s.pool, statedb.ReadCommitted, func(tx pgx.Tx) error {
		if g.Kind == Application {
			if err := takeTables(ctx, tx, g.Role); err != nil {
				return err
			}
		}
		for _, statement := range statements {
			if _, err := tx.Exec(ctx, fmt.Sprintf(statement, role)); err != nil {
				return err
			}
		}
		migrations := g.Migrations
		if len(migrations) == 0 {
			migrations = []string{allMigrations}
		} else if _, err := tx.Exec(ctx, `DELETE FROM migrator.grants WHERE role = $1 AND kind = $2 AND migration = $3`, g.Role, g.Kind, allMigrations); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `INSERT INTO migrator.grants (role, kind, migration) SELECT $1, $2, unnest($3::text[]) ON CONFLICT DO NOTHING`, g.Role, g.Kind, migrations)
		return err
	})
	if err == nil {
		failpoint.Here("state.grant.committed")
	}
	if pgfail.SQLState(err) == pgfail.UndefinedObject {
		return hint.Errorf(hint.Hint{Text: "CREATE ROLE " + role + " LOGIN"}, "the role %q does not exist in the state database", g.Role)
	}
	return statedb.Explain(err)
}

// takeTables takes the tables away that earlier releases gave to an application's role, and that their
// applications write. A role that has them by another right keeps them.
func takeTables(ctx context.Context, tx pgx.Tx, role string) error {
	var keeps bool
	err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_namespace n JOIN pg_roles r ON r.oid = n.nspowner WHERE n.nspname = 'migrator' AND r.rolname = $1)
		OR EXISTS (SELECT FROM migrator.grants WHERE role = $1 AND kind <> 'application')
		OR NOT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)`, role).Scan(&keeps)
	if err != nil || keeps {
		return err
	}
	for _, statement := range []string{
		`REVOKE ALL ON ALL TABLES IN SCHEMA migrator FROM %s`, // also of their columns
		`REVOKE ALL ON FUNCTION migrator.rescue(text, bigint, text, jsonb) FROM %s`,
	} {
		if _, err := tx.Exec(ctx, fmt.Sprintf(statement, pgx.Identifier{role}.Sanitize())); err != nil {
			return err
		}
	}
	return nil
}

// allMigrations is the migration of a grant for all.
const allMigrations = "*"

// GrantApplication gives a role what a Fleet needs.
func (s *Store) GrantApplication(ctx context.Context, role string, migrations ...string) error {
	return s.Grant(ctx, Grant{Kind: Application, Role: role, Migrations: migrations})
}

// GrantOperator gives a role what every method of Store needs, except Migrate and Grant.
func (s *Store) GrantOperator(ctx context.Context, role string, migrations ...string) error {
	return s.Grant(ctx, Grant{Kind: Operator, Role: role, Migrations: migrations})
}
