package state_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/dual/pgfleet"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/statedb"
	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/phases"
)

// forTokens is the server's store for its callers, on few connections: these are shared by many tokens.
func (h *hall) forTokens(connections int) *state.Store {
	h.t.Helper()
	_, url := newRoleOf(h)
	s, err := state.Open(h.t.Context(), fmt.Sprintf("%s%spool_max_conns=%d", url, map[bool]string{true: "&", false: "?"}[strings.Contains(url, "?")], connections))
	must(h.t, err)
	h.t.Cleanup(s.Close)
	calls, err := s.ForTokens(h.t.Context())
	must(h.t, err)
	h.t.Cleanup(calls.Close)
	return calls
}

// newRoleOf is another role with the grant of a server.
func newRoleOf(h *hall) (role, url string) {
	h.t.Helper()
	role, url = newRole(h.t, h.url)
	must(h.t, h.Grant(h.t.Context(), state.Grant{Kind: state.Server, Role: role}))
	return role, url
}

// TestConnectionsServeOneTokenAtATime: of many requests on few connections, each statement has the rights of its own
// request's token, also beside requests without one and those that are cancelled at any moment.
func TestConnectionsServeOneTokenAtATime(t *testing.T) {
	t.Parallel()
	h := newHall(t, `"for": ["complete"], "two_people": []`)
	s := h.forTokens(3)
	type caller struct{ role, token string }
	var callers []caller
	for range 5 {
		role := granted(t, h, state.Viewer)
		callers = append(callers, caller{role, h.token(role)})
	}
	const person = `SELECT role FROM migrator.list_tokens()`
	var all sync.WaitGroup
	for n := range 8 {
		all.Go(func() {
			for i := range 30 {
				c := callers[(n+i)%len(callers)]
				ctx, cancel := context.WithCancel(statedb.WithToken(t.Context(), c.token))
				switch (n + 5*i) % 6 {
				case 0: // without a token
					if _, err := s.Pool().Exec(t.Context(), person); !errors.Is(err, statedb.ErrNoToken) {
						t.Errorf("without a token: %v", err)
					}
				case 1: // cancelled
					go cancel()
					_, _ = s.Pool().Exec(ctx, person)
				case 2: // in a transaction that is rolled back
					_ = pgx.BeginFunc(ctx, s.Pool(), func(tx pgx.Tx) error {
						h.is(ctx, tx, c.role)
						_, err := tx.Exec(ctx, `SELECT 1/0`)
						return err
					})
				case 3: // not valid: it keeps no other request from its own
					_, err := s.Pool().Exec(statedb.WithToken(ctx, "mgt_x"), person)
					if !statedb.IsBadToken(err) {
						t.Errorf("a token that is not valid: %v", err)
					}
				default:
					h.is(ctx, s.Pool(), c.role)
				}
				cancel()
			}
		})
	}
	all.Wait()
	if most := s.Pool().Stat().MaxConns(); most != 3 {
		t.Errorf("the pool has up to %d connections: callers did not share them", most)
	}
}

// is checks that a statement has the rights of a role.
func (h *hall) is(ctx context.Context, q statedb.Querier, role string) {
	rows, err := q.Query(ctx, `SELECT DISTINCT role FROM migrator.list_tokens()`)
	if err != nil {
		h.t.Error(err)
		return
	}
	seen, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || len(seen) != 1 || seen[0] != role {
		h.t.Errorf("%s: statements of %v, %v", role, seen, err)
	}
}

// TestAConnectionHasNoRightsOfItsOwn: neither at its start nor beside the pool, and a connection whose token can't be
// set is closed.
func TestAConnectionHasNoRightsOfItsOwn(t *testing.T) {
	t.Parallel()
	h := newHall(t, `"for": ["complete"], "two_people": []`)
	s := h.forTokens(1)
	ctx := statedb.WithToken(t.Context(), h.token(granted(t, h, state.Operator)))
	beside, err := pgx.ConnectConfig(ctx, s.Pool().Config().ConnConfig)
	must(t, err)
	defer func() { _ = beside.Close(t.Context()) }()
	if _, err = beside.Exec(ctx, advance); !statedb.IsBadToken(err) {
		t.Errorf("a connection beside the pool: %v", err)
	}
	must(t, s.Pool().AcquireFunc(ctx, func(c *pgxpool.Conn) error {
		_, err := c.Exec(ctx, `RESET ALL`)
		must(t, err)
		if _, err = c.Exec(ctx, advance); !statedb.IsBadToken(err) {
			t.Errorf("after RESET ALL: %v", err)
		}
		return nil
	}))
	before := s.Pool().Stat().NewConnsCount()
	gone, cancel := context.WithCancel(statedb.WithToken(t.Context(), "mgt_another"))
	cancel()
	for range 3 {
		if _, err := s.Pool().Exec(gone, `SELECT`); !errors.Is(err, context.Canceled) {
			t.Errorf("a cancelled request: %v", err)
		}
	}
	fleet := pgfleet.New(s.Pool(), testMigration, pgfleet.Options{})
	app := statedb.WithToken(t.Context(), h.token(granted(t, h, state.Application, testMigration)))
	must(t, fleet.Leave(app, "no lease"))
	if made := s.Pool().Stat().NewConnsCount() - before; made > 1 {
		t.Errorf("%d connections were made again", made)
	}
	// The setting outlives no error of its own.
	broken := statedb.WithToken(t.Context(), h.token(granted(t, h, state.Viewer)))
	must(t, s.Pool().AcquireFunc(app, func(c *pgxpool.Conn) error {
		_, err := h.Pool().Exec(t.Context(), `SELECT pg_terminate_backend($1)`, int32(c.Conn().PgConn().PID()))
		return err
	}))
	testenv.Await(t, "a connection of the viewer", func() bool {
		_, err := s.Pool().Exec(broken, `SELECT FROM migrator.list_tokens()`)
		return err == nil
	})
	if err := fleet.Leave(broken, "no lease"); err == nil || !strings.Contains(err.Error(), "no grant of the kind application") {
		t.Errorf("a viewer's token leaves: %v", err)
	}
}

// TestAFleetActsForTokens: the leases that a server takes for its callers are theirs, each caller's for itself.
func TestAFleetActsForTokens(t *testing.T) {
	t.Parallel()
	h := newHall(t, `"for": ["complete"], "two_people": []`)
	fleet := pgfleet.New(h.forTokens(2).Pool(), testMigration, pgfleet.Options{})
	one, other := granted(t, h, state.Application, testMigration), granted(t, h, state.Application, testMigration)
	asOne, asOther := statedb.WithToken(t.Context(), h.token(one)), statedb.WithToken(t.Context(), h.token(other))
	g, err := fleet.Join(asOne, dual.Identity{Instance: "a"})
	must(t, err)
	if owner := value[string](t, h.Store, `SELECT role FROM migrator.leases WHERE id = $1`, g.Lease); owner != one {
		t.Errorf("the lease belongs to %s", owner)
	}
	if _, err := fleet.Renew(asOther, g.Lease, g.Route.Epoch); !errors.Is(err, dual.ErrLeaseLost) {
		t.Errorf("another application renews it: %v", err)
	}
	if _, err := fleet.Renew(t.Context(), g.Lease, g.Route.Epoch); !errors.Is(err, statedb.ErrNoToken) {
		t.Errorf("a request without a token renews it: %v", err)
	}
	g, err = fleet.Renew(asOne, g.Lease, g.Route.Epoch)
	if must(t, err); g.TTL != phases.LeaseTTL.Truncate(time.Millisecond) {
		t.Errorf("renewed for %s", g.TTL)
	}
}
