package state

import (
	"context"
	"errors"
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
	Decider     Kind = "decider"     // what a Viewer may; and to approve, to acknowledge, to pause and to resume
	Viewer      Kind = "viewer"      // to read status, history and reports, and nothing else
	Server      Kind = "server"      // to act for the roles of callers' tokens, and nothing by itself
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
			grantOwnTokens,
			`GRANT EXECUTE ON FUNCTION migrator.join_fleet(text, text, text, text, bigint, text, text), migrator.renew_lease(text, text, bigint, bigint),
				migrator.leave_fleet(text, text), migrator.settle(text), migrator.journal_keys(text, bytea[], text[], bigint[], text[]),
				migrator.has_journaled(text, bytea), migrator.captured(text), migrator.return_keys(text, bigint, bytea[]),
				migrator.observe(text, text, text[], bigint[], text[], bigint[], text[], bigint[], bigint[], bigint[], bytea[]),
				migrator.report_fault(text, text, text, bigint, bigint, boolean), migrator.route(text), migrator.applied_file(text),
				migrator.fleet_migrations(), migrator.take_reads_back(text, bigint, text), migrator.witness(text, bigint, text, integer, text) TO %s`,
		}
	case Operator, Server: // a drill runs an application of its own
		return append(peoplesRights(k), rights(Application)...)
	case Decider, Viewer:
		return peoplesRights(k)
	}
	return nil
}

// Grant gives a role the privileges of a kind, and notes for which migrations it has them. A grant
// that names migrations adds them, and ends one for all migrations; one that names none is for all.
// Only the schema's owner may grant. Repeat it after Migrate.
func (s *Store) Grant(ctx context.Context, g Grant) error {
	if rights(g.Kind) == nil {
		return fmt.Errorf("there is no kind of grant %q", g.Kind)
	}
	if g.Kind == Server && len(g.Migrations) > 0 {
		return errors.New("a grant of the kind server is for all migrations: what a caller may, the grants of its token's role say")
	}
	role := pgx.Identifier{g.Role}.Sanitize()
	err := statedb.InTx(ctx, s.pool, statedb.ReadCommitted, func(tx pgx.Tx) error {
		if err := s.again(ctx, tx, g, role); err != nil {
			return err
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

// again gives the role the privileges of all kinds that it has grants of, and no others: those that an older
// release gave are gone by that.
func (s *Store) again(ctx context.Context, tx pgx.Tx, g Grant, role string) error {
	rows, err := tx.Query(ctx, `SELECT kind FROM migrator.grants WHERE role = $1 UNION SELECT $2 ORDER BY 1`, g.Role, g.Kind)
	if err != nil {
		return err
	}
	kinds, err := pgx.CollectRows(rows, pgx.RowTo[Kind])
	if err != nil {
		return err
	}
	var owns bool
	err = tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_namespace n JOIN pg_roles r ON r.oid = n.nspowner WHERE n.nspname = 'migrator' AND r.rolname = $1)`, g.Role).Scan(&owns)
	if err != nil || owns { // it needs no grant, and would lose what is its own
		return err
	}
	var statements []string
	for _, schema := range []string{statedb.Schema, statedb.QueueSchema} {
		for _, what := range []string{"TABLES", "SEQUENCES", "FUNCTIONS"} {
			statements = append(statements, `REVOKE ALL ON ALL `+what+` IN SCHEMA `+schema+` FROM %s`)
		}
	}
	for _, k := range kinds {
		statements = append(statements, rights(k)...)
	}
	for _, statement := range statements {
		if _, err := tx.Exec(ctx, fmt.Sprintf(statement, role)); err != nil {
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

// Ungranted returns the roles that have rights on the schema's tables which no grant explains: an earlier release gave
// applications some. The schema's owner is none of them.
func (s *Store) Ungranted(ctx context.Context) ([]string, error) {
	rows, err := s.pool.Query(ctx, `SELECT DISTINCT r.rolname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		CROSS JOIN aclexplode(c.relacl) a JOIN pg_roles r ON r.oid = a.grantee
		WHERE n.nspname = 'migrator' AND a.grantee <> n.nspowner
		  AND NOT EXISTS (SELECT FROM migrator.grants g WHERE g.role = r.rolname AND g.kind <> 'application') ORDER BY 1`)
	if err != nil {
		return nil, statedb.Explain(err)
	}
	roles, err := pgx.CollectRows(rows, pgx.RowTo[string])
	return roles, statedb.Explain(err)
}

// MayOperate reports who calls, and whether that may operate the migration. Each function asks by itself; this is for
// what must not begin otherwise, such as opening the stores with a server's own URLs.
func (s *Store) MayOperate(ctx context.Context, migration string) (who string, may bool, err error) {
	err = s.pool.QueryRow(ctx, `SELECT `+statedb.Person(ctx)+`, migrator.may('operator', $1)`, migration).Scan(&who, &may)
	return who, may, statedb.Explain(err)
}
