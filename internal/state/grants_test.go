package state_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/statedb"
)

// TestGrantsAreOfAMigration: whom migrator.may lets, by what was granted.
func TestGrantsAreOfAMigration(t *testing.T) {
	t.Parallel()
	s, dbURL := open(t)
	group, _ := newRole(t, dbURL)
	member, memberURL := newRole(t, dbURL)
	gone, _ := newRole(t, dbURL)
	exec(t, s, `GRANT `+group+` TO `+member)
	// A role that was dropped leaves its row.
	exec(t, s, `INSERT INTO migrator.grants (role, kind) VALUES ('a role that is not', 'viewer'), ($1, 'viewer')`, gone)
	conn, err := pgx.Connect(t.Context(), memberURL)
	must(t, err)
	defer conn.Close(context.WithoutCancel(t.Context()))
	may := func() (list string) {
		must(t, conn.QueryRow(t.Context(), `SELECT coalesce(string_agg(k || ' ' || m, ', ' ORDER BY k, m) FILTER (WHERE migrator.may(k, m)), '')
			FROM unnest(ARRAY['application', 'decider', 'operator', 'viewer']) k, unnest(ARRAY['a', 'b']) m`).Scan(&list))
		return list
	}
	for _, c := range []struct {
		grant state.Grant
		want  string
	}{
		{state.Grant{}, ""},
		{state.Grant{Kind: state.Application, Role: group, Migrations: []string{"a"}}, "application a"},
		{state.Grant{Kind: state.Application, Role: member}, "application a, application b"},
		{state.Grant{Kind: state.Application, Role: member, Migrations: []string{"b"}}, "application a, application b"},
		{state.Grant{Kind: state.Operator, Role: group, Migrations: []string{"b", "c"}}, "application a, application b, operator b, viewer b"},
	} {
		if c.grant.Role != "" {
			must(t, s.Grant(t.Context(), c.grant))
		}
		exec(t, s, `GRANT USAGE ON SCHEMA migrator TO `+member+`; GRANT EXECUTE ON FUNCTION migrator.may(text, text), migrator.require(text, text) TO `+member)
		if got := may(); got != c.want {
			t.Errorf("after %+v: %s, want %s", c.grant, got, c.want)
		}
	}
	// Named migrations took the place of all.
	if n := value[int64](t, s, `SELECT count(*) FROM migrator.grants WHERE role = $1 AND migration = '*'`, member); n != 0 {
		t.Errorf("%d grants for all migrations are left", n)
	}
	_, err = conn.Exec(t.Context(), `SELECT migrator.require('operator', 'a')`)
	var refused *statedb.NotAllowedError
	if err = statedb.Explain(err); !errors.As(err, &refused) || !strings.Contains(refused.What, "operator for the migration a") ||
		refused.Hint().Text != "migrator init --grant-operator "+member+" --migration a" {
		t.Errorf("%v, %+v", err, refused)
	}
	if !value[bool](t, s, `SELECT migrator.may('decider', 'a')`) {
		t.Error("the owner may not")
	}
	for _, change := range []string{`INSERT INTO migrator.grants (role, kind) VALUES (session_user, 'operator')`, `DELETE FROM migrator.grants`, `UPDATE migrator.grants SET migration = '*'`} {
		if _, err := conn.Exec(t.Context(), change); err == nil || !strings.Contains(err.Error(), "permission denied") {
			t.Errorf("%s: %v", change, err)
		}
	}
	if err := s.Grant(t.Context(), state.Grant{Kind: "admin", Role: member}); err == nil {
		t.Error("an unknown kind was granted")
	}
}

// TestRightsOfAnEarlierReleaseAreSeen: until the role is granted again.
func TestRightsOfAnEarlierReleaseAreSeen(t *testing.T) {
	t.Parallel()
	s, dbURL := open(t)
	application, _ := newRole(t, dbURL)
	operator, _ := newRole(t, dbURL)
	must(t, s.Grant(t.Context(), state.Grant{Kind: state.Application, Role: application}))
	must(t, s.Grant(t.Context(), state.Grant{Kind: state.Operator, Role: operator}))
	wants := func(want ...string) {
		t.Helper()
		got, err := s.Ungranted(t.Context())
		must(t, err)
		if strings.Join(got, " ") != strings.Join(want, " ") {
			t.Errorf("%q, want %q", got, want)
		}
	}
	wants()
	exec(t, s, `GRANT SELECT, UPDATE ON migrator.leases TO `+application)
	wants(application)
	must(t, s.Grant(t.Context(), state.Grant{Kind: state.Application, Role: application}))
	wants()
}
