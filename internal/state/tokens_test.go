package state_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/internal/state"
)

// hall is a state database with a server, and roles whose tokens it gets.
type hall struct {
	*office
	server *state.Store
	name   string // of the server's role
}

func newHall(t *testing.T, approval string) *hall {
	t.Helper()
	h := &hall{office: newOffice(t, approval)}
	role, url := newRole(t, h.url)
	must(t, h.Grant(t.Context(), state.Grant{Kind: state.Server, Role: role}))
	s, err := state.Open(t.Context(), url)
	must(t, err)
	t.Cleanup(s.Close)
	h.server, h.name = s, role
	return h
}

// token is one of a role, as its owner makes it.
func (h *hall) token(role string) string {
	h.t.Helper()
	token, _, err := h.CreateToken(h.t.Context(), state.NewToken{Role: role, Lives: time.Hour})
	must(h.t, err)
	return token
}

// as runs a statement on the server's session for a token; "": for none.
func (h *hall) as(s *state.Store, token, sql string, args ...any) error {
	ctx := h.t.Context()
	return pgx.BeginFunc(ctx, s.Pool(), func(tx pgx.Tx) error {
		if token != "" {
			if err := state.ActFor(ctx, tx, token); err != nil {
				return err
			}
		}
		_, err := tx.Exec(ctx, sql, args...)
		return err
	})
}

func granted(t *testing.T, h *hall, kind state.Kind, migrations ...string) (role string) {
	t.Helper()
	role, _ = newRole(t, h.url)
	must(t, h.Grant(t.Context(), state.Grant{Kind: kind, Role: role, Migrations: migrations}))
	return role
}

func refusedWith(t *testing.T, what string, err error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%s: %v, want a refusal with %q", what, err, want)
	}
}

const advance = `SELECT migrator.transition('products', (SELECT epoch FROM migrator.migrations WHERE name = 'products'), 'shadow-write', 0, 'advance', 'r', '{}', '', 0, 0, 0, 0, false, false)`

// TestATokenHasTheRightsOfItsRole: what the state's functions and policies give a server's session, they give by the role of
// the token, and nothing by its own.
func TestATokenHasTheRightsOfItsRole(t *testing.T) {
	t.Parallel()
	h := newHall(t, `"for": ["complete"], "two_people": []`)
	ctx := t.Context()
	orders := applied()
	orders.Migration, orders.Config, orders.ConfigHash = "orders", []byte(`{"name":"orders"}`), "o1"
	_, _, err := h.Apply(ctx, orders)
	must(t, err)
	viewer, other := granted(t, h, state.Viewer), granted(t, h, state.Operator, "orders")
	operator, decider := granted(t, h, state.Operator, testMigration), granted(t, h, state.Decider)
	app := granted(t, h, state.Application, testMigration)
	ungranted, _ := newRole(t, h.url)
	const kind, unseen = "no grant of the kind", "no grant of the kind"

	refusedWith(t, "no token", h.as(h.server, "", advance), unseen)
	refusedWith(t, "no token pauses", h.as(h.server, "", `SELECT migrator.pause('products', 'p', 'p')`), kind)
	refusedWith(t, "no token joins", h.as(h.server, "", `SELECT migrator.join_fleet('products', 'l', 'i', '', NULL, NULL, '')`), kind)
	refusedWith(t, "a viewer's token", h.as(h.server, h.token(viewer), advance), kind)
	refusedWith(t, "a viewer's token pauses", h.as(h.server, h.token(viewer), `SELECT migrator.pause('products', 'p', 'p')`), kind)
	refusedWith(t, "another migration's operator", h.as(h.server, h.token(other), advance), kind)
	refusedWith(t, "an application's token", h.as(h.server, h.token(app), advance), kind)
	refusedWith(t, "a decider's token", h.as(h.server, h.token(decider), advance), kind)
	refusedWith(t, "a token of a role without a grant", h.as(h.server, h.token(ungranted), advance), kind)
	refusedWith(t, "evidence", h.as(h.server, h.token(operator), `INSERT INTO migrator.evaluations (migration, kind) VALUES ('products', 'gate')`), "permission denied")
	refusedWith(t, "the queue", h.as(h.server, h.token(operator), `SELECT * FROM migrator_river.river_job`), "permission denied")

	// What it reads: rows of its migrations.
	for _, c := range []struct {
		what, token string
		want        int64
	}{{"no token", "", 0}, {"a viewer", h.token(viewer), 2}, {"an operator of one", h.token(operator), 1}, {"no grant", h.token(ungranted), 0}} {
		var n int64
		must(t, pgx.BeginFunc(ctx, h.server.Pool(), func(tx pgx.Tx) error {
			if c.token != "" {
				if err := state.ActFor(ctx, tx, c.token); err != nil {
					return err
				}
			}
			return tx.QueryRow(ctx, `SELECT count(DISTINCT migration) FROM migrator.history`).Scan(&n)
		}))
		if n != c.want {
			t.Errorf("%s reads the history of %d migrations, want %d", c.what, n, c.want)
		}
	}

	must(t, h.as(h.server, h.token(decider), `SELECT migrator.pause('products', 'p', 'p')`))
	must(t, h.as(h.server, h.token(operator), advance))
	must(t, h.as(h.server, h.token(app), `SELECT migrator.join_fleet('products', 'l', 'i', '', NULL, NULL, '')`))
	if owner := value[string](t, h.Store, `SELECT role FROM migrator.leases WHERE id = 'l'`); owner != app {
		t.Errorf("the lease belongs to %s, want %s", owner, app)
	}
	// The setting ends with the transaction: the next one on this connection has no token.
	refusedWith(t, "after it", h.as(h.server, "", advance), unseen)
	// Both are recorded, under the chain's hash, and who calls writes neither.
	type entry struct{ Actor, Role string }
	rows, err := h.Pool().Query(ctx, `SELECT actor, evidence #>> '{via,role}' AS role FROM migrator.history WHERE migration = 'products' AND cause = 'advance'`)
	must(t, err)
	moved, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[entry])
	if must(t, err); moved != (entry{operator, h.name}) {
		t.Errorf("recorded %+v, want %s by %s", moved, operator, h.name)
	}
	entries, err := h.History(ctx, testMigration, 1)
	must(t, err)
	if server, id := entries[0].Via(); server != h.name || id == 0 || entries[0].Actor != operator {
		t.Errorf("the newest entry is of %s by %q, token %d", entries[0].Actor, server, id)
	}
	must(t, h.as(h.asAnn, "", `SELECT migrator.note('products', 'loss', 'r', '{"via":{"role":"forged"}}')`))
	if n := value[int64](t, h.Store, `SELECT count(*) FROM migrator.history WHERE evidence #>> '{via,role}' = 'forged'`); n != 0 {
		t.Error("a caller without a token wrote what it came by")
	}
	if _, err := h.VerifyHistory(ctx, testMigration); err != nil {
		t.Error(err)
	}
}

// TestATokenThatIsNotValidOpensNothing, and does not fall back to the rights of the session.
func TestATokenThatIsNotValidOpensNothing(t *testing.T) {
	t.Parallel()
	h := newHall(t, `"for": ["complete"], "two_people": []`)
	ctx := t.Context()
	operator := granted(t, h, state.Operator)
	// The server is an operator too: a failed token must not leave it that.
	must(t, h.GrantOperator(ctx, h.name))
	const invalid = "not valid"
	revoked, made, err := h.CreateToken(ctx, state.NewToken{Role: operator, Lives: time.Hour})
	must(t, err)
	for range 2 { // it can be repeated
		gone, err := h.RevokeToken(ctx, made.ID)
		if must(t, err); gone.Revoked.IsZero() || gone.RevokedBy == "" || gone.Role != operator {
			t.Errorf("revoked: %+v", gone)
		}
	}
	expired := h.token(operator)
	hash := state.TokenHash(expired)
	exec(t, h.Store, `UPDATE migrator.tokens SET expires_at = clock_timestamp() WHERE hash = $1`, hash[:])
	role, _ := newRole(t, h.url)
	dropped := h.token(role)
	exec(t, h.Store, `UPDATE migrator.tokens SET role = 'a role that is not' WHERE role = $1`, role)
	promoted := granted(t, h, state.Viewer)
	ofPromoted := h.token(promoted)
	exec(t, h.Store, fmt.Sprintf(`DO $$ BEGIN EXECUTE format('GRANT %%I TO %s', session_user); END $$`, promoted))
	for what, token := range map[string]string{"unknown": "mgt_x", "revoked": revoked, "expired": expired, "of a dropped role": dropped, "of the owner": ofPromoted} {
		refusedWith(t, what, h.as(h.server, token, advance), invalid)
	}
	for _, given := range []string{"x", strings.Repeat("0", 64), strings.Repeat("F", 64), revoked, hex.EncodeToString(hash[:]), " "} {
		err := pgx.BeginFunc(ctx, h.server.Pool(), func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, `SELECT set_config('migrator.token', $1, true)`, given); err != nil {
				return err
			}
			_, err := tx.Exec(ctx, advance)
			return err
		})
		refusedWith(t, fmt.Sprintf("%q", given), err, invalid)
	}
	// A role that has another's token can present it to a server alone.
	refusedWith(t, "a role that is no server", h.as(h.asMa, h.token(operator), advance), "no grant of the kind server")
}

// TestWhoMakesTokens: the owner for all but itself, a role for itself, and none for a role that it is a member of.
func TestWhoMakesTokens(t *testing.T) {
	t.Parallel()
	h := newHall(t, `"for": ["complete"], "two_people": ["complete"]`)
	ctx := t.Context()
	create := func(s *state.Store, n state.NewToken) error {
		if n.Lives == 0 {
			n.Lives = time.Hour
		}
		_, _, err := s.CreateToken(ctx, n)
		return err
	}
	must(t, create(h.asAnn, state.NewToken{}))
	must(t, create(h.asAnn, state.NewToken{Role: h.ann}))
	// Two names would be two people.
	refusedWith(t, "of her group", create(h.asAnn, state.NewToken{Role: h.deciders}), "for itself alone")
	refusedWith(t, "of another", create(h.asAnn, state.NewToken{Role: h.bob}), "for itself alone")
	refusedWith(t, "of the owner", create(h.Store, state.NewToken{}), "rights of the schema's owner")
	refusedWith(t, "of no role", create(h.Store, state.NewToken{Role: "a role that is not"}), "does not exist")
	refusedWith(t, "for ever", create(h.asAnn, state.NewToken{Lives: 400 * 24 * time.Hour}), "up to 366 days")
	refusedWith(t, "for no time", create(h.asAnn, state.NewToken{Lives: -time.Hour}), "up to 366 days")
	refusedWith(t, "under a token", h.as(h.server, h.token(h.ann), `SELECT migrator.create_token($1, $2, '', 1000, NULL, 0)`, h.ann, make([]byte, 32)), "for itself alone")
	refusedWith(t, "revoke under a token", h.as(h.server, h.token(h.ann), `SELECT migrator.revoke_token(1)`), "no token 1")
	refusedWith(t, "read the table", h.as(h.asAnn, "", `SELECT * FROM migrator.tokens`), "permission denied")
	refusedWith(t, "write the table", h.as(h.asAnn, "", `UPDATE migrator.tokens SET expires_at = 'infinity'`), "permission denied")
	refusedWith(t, "ask for another's", h.as(h.asAnn, "", `SELECT migrator.bearers()`), "permission denied")

	// A replacement leaves the former one valid for a while, and there is one of it.
	first, old, err := h.asAnn.CreateToken(ctx, state.NewToken{Lives: time.Hour})
	must(t, err)
	second, made, err := h.asAnn.CreateToken(ctx, state.NewToken{Replaces: old.ID, Lives: time.Hour, Overlap: time.Minute})
	must(t, err)
	if made.Role != h.ann || made.Replaces != old.ID {
		t.Errorf("made %+v", made)
	}
	for _, token := range []string{first, second} {
		must(t, h.as(h.server, token, `SELECT FROM migrator.list_tokens()`))
	}
	refusedWith(t, "replaced twice", create(h.asAnn, state.NewToken{Replaces: old.ID}), "was replaced before")
	_, _, err = h.asAnn.CreateToken(ctx, state.NewToken{Replaces: made.ID, Lives: time.Hour})
	must(t, err)
	refusedWith(t, "without an overlap", h.as(h.server, second, `SELECT FROM migrator.list_tokens()`), "not valid")
	// An overlap makes no token last longer.
	_, brief, err := h.asAnn.CreateToken(ctx, state.NewToken{Lives: time.Minute})
	must(t, err)
	must(t, create(h.asAnn, state.NewToken{Replaces: brief.ID, Overlap: 24 * time.Hour}))
	all, err := h.asAnn.Tokens(ctx)
	must(t, err)
	if n := slices.IndexFunc(all, func(k state.Token) bool { return k.ID == brief.ID }); n < 0 || !all[n].Expires.Equal(brief.Expires) {
		t.Errorf("a token of a minute, replaced: %+v", all)
	}
	if _, err := h.asBob.RevokeToken(ctx, old.ID); err == nil || !strings.Contains(err.Error(), "no token") {
		t.Errorf("another's token was revoked: %v", err)
	}
	// A dry run makes none.
	before, err := h.Tokens(ctx)
	must(t, err)
	_, dry, err := h.asAnn.CreateToken(state.DryRun(ctx), state.NewToken{Lives: time.Hour})
	if must(t, err); dry.Role != h.ann {
		t.Errorf("a dry run would make %+v", dry)
	}
	after, err := h.Tokens(ctx)
	if must(t, err); len(before) != len(after) {
		t.Error("a dry run made a token")
	}
	if own, err := h.asBob.Tokens(ctx); err != nil || len(own) != 0 {
		t.Errorf("bob sees %+v, %v", own, err)
	}
}

// TestTwoPeopleByTokens: a token is its role, however it was made.
func TestTwoPeopleByTokens(t *testing.T) {
	t.Parallel()
	h := newHall(t, `"for": ["shadow-write"], "two_people": ["shadow-write"]`)
	approve := `SELECT migrator.approve('products', 'shadow-write', '', 'r', 3600000000)`
	ann, bob, mallory := h.token(h.ann), h.token(h.bob), h.token(h.mallory)
	refusedWith(t, "no member", h.as(h.server, mallory, approve), "only its members may approve")
	must(t, h.as(h.server, ann, approve))
	refusedWith(t, "one person by two ways", h.as(h.asAnn, "", advance), "needs two people")
	refusedWith(t, "one person by two tokens", h.as(h.server, h.token(h.ann), advance), "needs two people")
	must(t, h.as(h.server, bob, advance))
}

// TestPublication is what a server gets.
func TestPublication(t *testing.T) {
	t.Parallel()
	h := newHall(t, `"for": ["complete"], "two_people": []`)
	ctx := t.Context()
	token := h.token(granted(t, h, state.Viewer, testMigration))
	routes, bearers, err := h.server.Publication(ctx)
	must(t, err)
	if len(routes) != 1 || routes[0].Migration != testMigration || routes[0].Route.Phase != "legacy" || routes[0].Lease <= 0 {
		t.Errorf("routes %+v", routes)
	}
	if b, ok := bearers[state.TokenHash(token)]; !ok || !b.Migrations[testMigration] || len(b.Migrations) != 1 || b.Lives <= 0 || b.Lives > time.Hour {
		t.Errorf("bearers %+v", bearers)
	}
	// What the server has is no credential.
	hash := state.TokenHash(token)
	if given := sha256.Sum256([]byte(token)); given == hash {
		t.Error("the state stores what a session presents")
	}
	if _, _, err := h.asAnn.Publication(context.WithoutCancel(ctx)); err == nil || !strings.Contains(err.Error(), "permission denied") {
		t.Errorf("an operator that is no server: %v", err)
	}
}
