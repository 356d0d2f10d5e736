package state_test

import (
	"context"
	"net/url"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/dual/pgfleet"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/test/statetest"
	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/phases"
)

// Some tests wait for a statement or a lease to run out.
func TestMain(m *testing.M) { testenv.Main(testenv.Parallel(m, 4)) }

const testMigration = "products"

func applied() state.Applied {
	return state.Applied{
		Migration: testMigration, Environment: "test", Config: []byte(`{"name":"products"}`), ConfigHash: "h1",
		Schema: []byte(`{"fields":[],"key":[]}`), Reversible: true,
	}
}

// open gives a database of the test's own with the migration applied.
func open(t *testing.T) (*state.Store, string) {
	t.Helper()
	dbURL := statetest.URL(t)
	return openPrepared(t, dbURL), dbURL
}

func openAt(t testing.TB, dbURL string) *state.Store {
	t.Helper()
	_, _, err := state.Migrate(t.Context(), dbURL)
	must(t, err)
	return openPrepared(t, dbURL)
}

func openPrepared(t testing.TB, dbURL string) *state.Store {
	t.Helper()
	s, err := state.Open(t.Context(), dbURL)
	must(t, err)
	t.Cleanup(s.Close)
	_, _, err = s.Apply(t.Context(), applied())
	must(t, err)
	return s
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func exec(t testing.TB, s *state.Store, sql string, args ...any) {
	t.Helper()
	_, err := s.Pool().Exec(t.Context(), sql, args...)
	must(t, err)
}

func value[T any](t testing.TB, s *state.Store, sql string, args ...any) T {
	t.Helper()
	rows, err := s.Pool().Query(t.Context(), sql, args...)
	must(t, err)
	v, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[T])
	must(t, err)
	return v
}

var (
	legacy      = phases.Route{Phase: phases.Legacy}
	shadowWrite = phases.Route{Phase: phases.ShadowWrite}
	dualRead    = phases.Route{Phase: phases.DualRead, Percent: phases.All}
	cutover5    = phases.Route{Phase: phases.Cutover, Percent: 500}
	cutover     = phases.Route{Phase: phases.Cutover, Percent: phases.All}
	grace       = phases.Route{Phase: phases.Grace}
	fencedRoute = phases.Route{Phase: phases.Fenced}
	retain      = phases.Route{Phase: phases.Retain}
)

func move(ctx context.Context, s *state.Store, to phases.Route) (phases.Status, error) {
	return s.Transition(ctx, testMigration, func(e phases.Snapshot) (phases.Move, error) {
		m := phases.Move{From: e.Status.Route, To: to, Cause: phases.CauseRollback, Reason: "test", Attempt: e.Status.Attempt}
		if phases.Forward(m.From, to) {
			m.Cause = phases.CauseAdvance
		}
		if to.Phase.Passing() {
			m.Attempt, m.FenceEra = "a1", 7
		}
		if to.Phase == phases.Grace {
			m.Attempt = ""
		}
		return m, nil
	})
}

// walk moves through the routes, letting the fleet's instances acknowledge each.
func walk(t *testing.T, s *state.Store, f []*instance, routes ...phases.Route) {
	t.Helper()
	for _, to := range routes {
		st, err := move(t.Context(), s, to)
		must(t, err)
		for _, i := range f {
			i.ack(t, st.Route.Epoch)
		}
	}
}

// instance is an application process, as a client of the state database.
type instance struct {
	fleet
	grant dual.Grant
}

func join(t *testing.T, s *state.Store, name string, o pgfleet.Options) *instance {
	t.Helper()
	return overPostgres(s).join(t, name, o)
}

func (i *instance) ack(t *testing.T, epoch int64) {
	t.Helper()
	g, err := i.Renew(t.Context(), i.grant.Lease, epoch)
	must(t, err)
	i.grant = g
}

// lapse makes every live lease of the instance expire, as if time had passed.
func lapse(t *testing.T, s *state.Store, name string) {
	t.Helper()
	exec(t, s, `UPDATE migrator.leases SET expires_at = clock_timestamp() WHERE instance = $1 AND ended_at IS NULL`, name)
}

func as(t *testing.T, dbURL, user, password string) string {
	t.Helper()
	u, err := url.Parse(dbURL)
	must(t, err)
	u.User = url.UserPassword(user, password)
	return u.String()
}
