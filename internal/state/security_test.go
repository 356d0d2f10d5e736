package state_test

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stranglerfig/migrator/internal/state"
)

// securityFile has, between the marks, what each kind of role may do: it is what a reader checks, and what the
// catalogue is compared with.
const (
	securityFile  = "../../docs/security.md"
	rolesBegin    = "<!-- what roles may do: go generate ./internal/state -->\n"
	rolesEnd      = "<!-- end of what roles may do -->"
	privilegesSQL = `
WITH kinds AS (SELECT * FROM unnest($1::text[], $2::text[]) AS k (kind, role)),
	relations AS (SELECT c.oid, n.nspname, c.relname, c.relkind, n.nspname || '.' || c.relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE n.nspname IN ('migrator', 'migrator_river') AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')),
	found AS (
		SELECT kind, 'schema' AS what, n.nspname AS schema, n.nspname AS name, v AS verb
		FROM kinds, pg_namespace n, unnest(ARRAY['USAGE', 'CREATE']) v
		WHERE n.nspname IN ('migrator', 'migrator_river') AND has_schema_privilege(role, n.oid, v)
		UNION ALL
		SELECT kind, 'table', r.nspname, r.relname, v
		FROM kinds, relations r, unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) v
		WHERE r.relkind <> 'S' AND has_table_privilege(role, r.oid, v)
		UNION ALL
		SELECT kind, 'table', r.nspname, r.relname, v || ' (' || string_agg(a.attname, ', ' ORDER BY a.attnum) || ')'
		FROM kinds, relations r JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped, unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'REFERENCES']) v
		WHERE r.relkind <> 'S' AND NOT has_table_privilege(role, r.oid, v) AND has_column_privilege(role, r.oid, a.attnum, v)
		GROUP BY kind, r.nspname, r.relname, v
		UNION ALL
		SELECT kind, 'sequence', r.nspname, r.relname, v
		FROM kinds, relations r, unnest(ARRAY['USAGE', 'SELECT', 'UPDATE']) v
		WHERE r.relkind = 'S' AND has_sequence_privilege(role, r.oid, v)
		UNION ALL
		SELECT kind, 'function', n.nspname, p.proname, 'EXECUTE'
		FROM kinds, pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
		WHERE n.nspname IN ('migrator', 'migrator_river') AND has_function_privilege(role, p.oid, 'EXECUTE')
		GROUP BY kind, n.nspname, p.proname)
SELECT kind, what, schema, name, verb FROM found ORDER BY what, schema, name, kind, verb`
)

type privilege struct{ Kind, What, Schema, Name, Verb string }

// TestRolesMayDoWhatTheDocumentSays compares the catalogue with docs/security.md: each kind of role, each object of both
// schemas, each verb.
func TestRolesMayDoWhatTheDocumentSays(t *testing.T) {
	t.Parallel()
	s, dbURL := open(t)
	kinds := []string{"none"} // a role without a grant: what PUBLIC has
	without, _ := newRole(t, dbURL)
	roles := []string{without}
	for _, k := range []state.Kind{state.Application, state.Operator, state.Decider, state.Viewer, state.Server} {
		role, _ := newRole(t, dbURL)
		must(t, s.Grant(t.Context(), state.Grant{Kind: k, Role: role}))
		kinds, roles = append(kinds, string(k)), append(roles, role)
	}
	rows, err := s.Pool().Query(t.Context(), privilegesSQL, kinds, roles)
	must(t, err)
	var all []privilege
	for rows.Next() {
		var p privilege
		must(t, rows.Scan(&p.Kind, &p.What, &p.Schema, &p.Name, &p.Verb))
		all = append(all, p)
	}
	must(t, rows.Err())
	for _, p := range all {
		if p.Kind == "none" {
			t.Errorf("PUBLIC has %s on the %s %s.%s", p.Verb, p.What, p.Schema, p.Name)
		}
	}
	got := rolesBegin + "\n" + describe(all) + "\n" + rolesEnd
	text, err := os.ReadFile(securityFile)
	must(t, err)
	before, rest, ok := strings.Cut(string(text), rolesBegin)
	stands, after, end := strings.Cut(rest, rolesEnd)
	if !ok || !end {
		t.Fatalf("%s has no marks for what roles may do", securityFile)
	}
	if *update {
		must(t, os.WriteFile(securityFile, []byte(before+got+after), 0o644))
		return
	}
	if want := rolesBegin + stands + rolesEnd; got != want {
		a, b := strings.Split(got, "\n"), strings.Split(want, "\n")
		for _, line := range a {
			if !slices.Contains(b, line) {
				t.Errorf("the catalogue has, and %s has not: %s", securityFile, line)
			}
		}
		for _, line := range b {
			if !slices.Contains(a, line) {
				t.Errorf("%s has, and the catalogue has not: %s", securityFile, line)
			}
		}
		t.Log("if the change is meant: go generate ./internal/state, and say there what a role can do by it, at worst")
	}
}

// describe writes tables in Markdown. Of the queue all objects of a kind are one row: they are its library's.
func describe(all []privilege) string {
	type object struct{ what, name string }
	verbs := map[object]map[string][]string{}
	for _, p := range all {
		if p.Kind == "none" || p.What == "schema" && p.Verb == "USAGE" && p.Schema == "migrator" {
			continue // every kind may see that there is a schema
		}
		o := object{p.What, "`" + p.Name + "`"}
		if p.Schema != "migrator" {
			o.name = "all of `" + p.Schema + "`"
		}
		if verbs[o] == nil {
			verbs[o] = map[string][]string{}
		}
		if !slices.Contains(verbs[o][p.Kind], p.Verb) {
			verbs[o][p.Kind] = append(verbs[o][p.Kind], p.Verb)
		}
	}
	var list []object
	for o := range verbs {
		list = append(list, o)
	}
	slices.SortFunc(list, func(a, b object) int { return cmp.Or(cmp.Compare(a.what, b.what), cmp.Compare(a.name, b.name)) })
	var text strings.Builder
	for _, what := range []string{"schema", "table", "sequence", "function"} {
		fmt.Fprintf(&text, "| %s | application | operator | decider | viewer | server |\n|---|---|---|---|---|---|\n", what)
		for _, o := range list {
			if o.what != what {
				continue
			}
			text.WriteString("| " + o.name + " |")
			for _, k := range []string{"application", "operator", "decider", "viewer", "server"} {
				v := verbs[o][k]
				slices.Sort(v)
				cell := strings.Join(v, ", ")
				if cell == "EXECUTE" {
					cell = "yes"
				}
				text.WriteString(" " + cell + " |")
			}
			text.WriteString("\n")
		}
		text.WriteString("\n")
	}
	return text.String()
}

// onlyRead are the functions with the owner's rights that ask for no grant: they change nothing, and give
// nothing of a migration that the caller could not see.
var onlyRead = []string{
	"may", "require", "require_one", "granted", "server", "changed_server", "mark_of", "refuse_lost_target",
	"rescue", "witness", // of an application: they lead to where nothing is lost
	"owns", "create_token", "revoke_token", "list_tokens", // of a role's own tokens, or the owner's
	"bearers", "flagged", // ask for the grant of a server
	"person", // who calls: the session, or the role of its token
}

// TestFunctionsOfTheOwnerAskWhoCalls: a function that has the owner's rights sets its search path; one that a role may
// call asks for a grant.
func TestFunctionsOfTheOwnerAskWhoCalls(t *testing.T) {
	t.Parallel()
	s, dbURL := open(t)
	for _, k := range []state.Kind{state.Application, state.Operator, state.Decider, state.Viewer, state.Server} {
		role, _ := newRole(t, dbURL)
		must(t, s.Grant(t.Context(), state.Grant{Kind: k, Role: role}))
	}
	rows, err := s.Pool().Query(t.Context(), `SELECT proname, prosrc, prorettype = 'trigger'::regtype, coalesce(array_to_string(proconfig, ' '), ''),
			prosecdef AND EXISTS (SELECT FROM aclexplode(proacl) a WHERE a.grantee <> proowner)
		FROM pg_proc WHERE pronamespace = 'migrator'::regnamespace`)
	must(t, err)
	for rows.Next() {
		var name, body, config string
		var trigger, callable bool
		must(t, rows.Scan(&name, &body, &trigger, &config, &callable))
		if !strings.Contains(config, "search_path=pg_catalog, pg_temp") {
			t.Errorf("%s does not set its search path: %q", name, config)
		}
		asks := strings.Contains(body, "migrator.require(") || strings.Contains(body, "migrator.require_one(") ||
			strings.Contains(body, "migrator.require_fleet(") || strings.Contains(body, "migrator.enter(") || strings.Contains(body, "migrator.may(")
		if callable && !trigger && !asks && !slices.Contains(onlyRead, name) {
			t.Errorf("%s has the owner's rights, and asks for no grant", name)
		}
	}
	must(t, rows.Err())
}

// ofNoMigration are the tables that have no rows of a migration; every role that may read the schema reads them.
var ofNoMigration = []string{"identity", "schema_version", "servers", "grants"}

// TestTablesAreSeenByMigration: whatever table a role reads, it sees the rows of migrations that it has a grant for.
func TestTablesAreSeenByMigration(t *testing.T) {
	t.Parallel()
	s, dbURL := open(t)
	role, _ := newRole(t, dbURL)
	must(t, s.GrantOperator(t.Context(), role))
	rows, err := s.Pool().Query(t.Context(), `SELECT relname FROM pg_class WHERE relnamespace = 'migrator'::regnamespace AND relkind = 'r'
		AND NOT relrowsecurity AND has_table_privilege($1, oid, 'SELECT, INSERT, UPDATE, DELETE')`, role)
	must(t, err)
	for rows.Next() {
		var name string
		must(t, rows.Scan(&name))
		if !slices.Contains(ofNoMigration, name) {
			t.Errorf("migrator.%s has rows of migrations, and no row-level security", name)
		}
	}
	must(t, rows.Err())
}
