package state_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/dual/httpfleet"
	"github.com/stranglerfig/migrator/dual/pgfleet"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/statedb"
	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/phases"
)

func fleetOf(t *testing.T, s *state.Store) (phases.Fleet, phases.Status) {
	t.Helper()
	e, err := s.Snapshot(t.Context(), testMigration)
	must(t, err)
	return e.Fleet, e.Status
}

func TestALeaseFromJoinToLeave(t *testing.T) { overEach(t, aLeaseFromJoinToLeave) }

func aLeaseFromJoinToLeave(t *testing.T, s *state.Store, v over) {
	walk(t, s, nil, shadowWrite)
	a := v.join(t, "a", pgfleet.Options{})
	if g := a.grant; g.Route.Epoch != 2 || g.Route.Phase != phases.ShadowWrite || g.TTL != 15*time.Second || g.Renew != 5*time.Second || !g.Reversible || g.ConfigHash != "h1" || g.Instance != "a" {
		t.Errorf("grant: %+v", g)
	}
	b := v.join(t, "", pgfleet.Options{Lease: 2 * time.Minute, Renew: time.Minute})
	if b.grant.Instance == "" || b.grant.TTL != 2*time.Minute || b.grant.Renew != 40*time.Second { // a third of the lease
		t.Errorf("made up: %+v", b.grant)
	}
	walk(t, s, nil, dualRead)
	if f, _ := fleetOf(t, s); f.Live != 2 || f.Behind != 2 || f.Settled() || len(f.LiveRoutes) != 2 {
		t.Errorf("after the move: %+v", f)
	}
	a.ack(t, 3)
	if f, _ := fleetOf(t, s); f.Behind != 1 {
		t.Errorf("after one: %+v", f)
	}
	if epochs, err := s.Epochs(t.Context(), testMigration, 1); err != nil || !epochs[0].Settled.IsZero() {
		t.Errorf("settled too early: %+v, %v", epochs, err)
	}
	b.ack(t, 99) // above the present epoch: counts as the present one
	if f, st := fleetOf(t, s); !f.Settled() || len(f.LiveRoutes) != 1 || f.LiveRoutes[0] != st.Route {
		t.Errorf("after both: %+v", f)
	}
	if epochs, err := s.Epochs(t.Context(), testMigration, 1); err != nil || epochs[0].Settled.IsZero() {
		t.Errorf("not settled: %+v, %v", epochs, err)
	}
	a.ack(t, 1) // never lowered
	walk(t, s, nil, cutover5)
	leases, err := s.Leases(t.Context(), testMigration)
	if err != nil || len(leases) != 2 || leases[0].Acknowledged != 3 || leases[1].Acknowledged != 3 {
		t.Errorf("leases: %+v, %v", leases, err)
	}
	must(t, a.Leave(t.Context(), a.grant.Lease))
	must(t, a.Leave(t.Context(), a.grant.Lease))
	if _, err := a.Renew(t.Context(), a.grant.Lease, 3); !errors.Is(err, dual.ErrLeaseLost) {
		t.Errorf("renewed after leaving: %v", err)
	}
	must(t, b.Leave(t.Context(), b.grant.Lease))
	if f, st := fleetOf(t, s); f.Live != 0 || !f.Settled() || !st.Dirty.IsZero() {
		t.Errorf("all left: %+v, %+v", f, st)
	}
	unknown := v.connect("nope", pgfleet.Options{})
	if _, err := unknown.Join(t.Context(), dual.Identity{}); !errors.Is(err, statedb.ErrUnknownMigration) && !(v.http && isProblem(err, "unknown-migration")) {
		t.Errorf("join of an unknown migration: %v", err)
	}
}

func TestALapsedLeaseIsNotRenewedAndBlocksOnlyAdvances(t *testing.T) {
	overEach(t, aLapsedLeaseIsNotRenewedAndBlocksOnlyAdvances)
}

func aLapsedLeaseIsNotRenewedAndBlocksOnlyAdvances(t *testing.T, s *state.Store, v over) {
	walk(t, s, nil, shadowWrite, dualRead)
	a := v.join(t, "a", pgfleet.Options{})
	walk(t, s, []*instance{a}, cutover5)
	must(t, ignore(s.Evict(t.Context(), testMigration, "a", "gone", false), "still renews"))
	lapse(t, s, "a")
	if _, err := a.Renew(t.Context(), a.grant.Lease, 4); !errors.Is(err, dual.ErrLeaseLost) {
		t.Errorf("renewed: %v", err)
	}
	f, st := fleetOf(t, s)
	if f.Live != 0 || f.Settled() || len(f.Lapsed) != 1 || f.Lapsed[0] != "a" || len(f.LiveRoutes) != 0 || !st.Dirty.IsZero() {
		t.Errorf("lapsed: %+v", f)
	}
	if _, err := move(t.Context(), s, cutover); err == nil {
		t.Error("an advance passed")
	}
	for _, to := range []phases.Route{dualRead, shadowWrite, legacy} {
		if _, err := move(t.Context(), s, to); err != nil {
			t.Errorf("back to %s: %v", to, err)
		}
	}
	must(t, ignore(s.Evict(t.Context(), testMigration, "b", "gone", false), "lapsed are: a"))
	must(t, ignore(s.Evict(t.Context(), testMigration, "a", "", false), "needs a reason"))
	must(t, s.Evict(t.Context(), testMigration, "a", "its machine was scrapped", false))
	f, st = fleetOf(t, s)
	if !f.Settled() || st.Dirty.IsZero() || st.LastCause != "evict" || st.LastReason != "its machine was scrapped" {
		t.Errorf("evicted: %+v, %+v", f, st)
	}
	must(t, s.Evict(t.Context(), testMigration, "a", "gone", false)) // it is evicted already
	if _, again := fleetOf(t, s); again.LastReason != st.LastReason {
		t.Errorf("evicted once more: %+v", again)
	}
	must(t, ignore(s.Evict(t.Context(), testMigration, "c", "gone", false), "none has lapsed"))
	if _, err := move(t.Context(), s, shadowWrite); err != nil {
		t.Error(err)
	}
}

func ignore(err error, want string) error {
	if err == nil || !strings.Contains(err.Error(), want) {
		return errors.New("want an error with " + want + ", got " + errText(err))
	}
	return nil
}

func errText(err error) string {
	if err == nil {
		return "none"
	}
	return err.Error()
}

func TestARejoinReportsWhetherItsQueueSurvived(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		lapsed, own, wasLegacy    bool
		dirty                     bool
		live, behind, lapsedAfter int
	}{
		"a restarted process, lease lapsed":       {lapsed: true, dirty: true, live: 1},
		"a restarted process, lease still live":   {dirty: true, live: 2, behind: 0},
		"the same process, lease lapsed":          {lapsed: true, own: true, live: 1},
		"the same process, lease still live":      {own: true, live: 1},
		"a restarted process that was on legacy":  {lapsed: true, wasLegacy: true, live: 1},
		"the same process, on legacy, still live": {own: true, wasLegacy: true, live: 1},
	} {
		t.Run(name, func(t *testing.T) {
			overEach(t, func(t *testing.T, s *state.Store, v over) {
				if !c.wasLegacy {
					walk(t, s, nil, shadowWrite)
				}
				a := v.join(t, "a", pgfleet.Options{})
				if c.lapsed {
					lapse(t, s, "a")
				}
				who := dual.Identity{Instance: "a"}
				if c.own {
					who.Previous = a.grant.Lease
				}
				g, err := a.Join(t.Context(), who)
				must(t, err)
				f, st := fleetOf(t, s)
				if f.Live != c.live || f.Behind != c.behind || len(f.Lapsed) != 0 || !st.Dirty.IsZero() != c.dirty {
					t.Errorf("%+v, dirty %v", f, st.Dirty)
				}
				if _, err := a.Renew(t.Context(), a.grant.Lease, 2); !errors.Is(err, dual.ErrLeaseLost) {
					t.Errorf("the former lease was renewed: %v", err)
				}
				if !c.own { // another process, whose lease lapsed
					must(t, a.Leave(t.Context(), a.grant.Lease))
					if f, st := fleetOf(t, s); !st.Dirty.IsZero() || f.Live != 1 {
						t.Errorf("after its late leave: %+v, dirty %v", f, st.Dirty)
					}
				}
				// Once it would have expired, the former lease does not count in the fleet any more.
				exec(t, s, `UPDATE migrator.leases SET expires_at = clock_timestamp(), ended_at = least(ended_at, clock_timestamp()) WHERE id = $1`, a.grant.Lease)
				if f, _ := fleetOf(t, s); f.Live != 1 || !f.Settled() {
					t.Errorf("later: %+v", f)
				}
				if _, err := a.Renew(t.Context(), g.Lease, g.Route.Epoch); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// A process whose lease expired may have operations in flight on the routes that it was on.
func TestARejoinedLeaseStartsWhereTheFormerOneWas(t *testing.T) {
	overEach(t, aRejoinedLeaseStartsWhereTheFormerOneWas)
}

func aRejoinedLeaseStartsWhereTheFormerOneWas(t *testing.T, s *state.Store, v over) {
	walk(t, s, nil, shadowWrite)
	a := v.join(t, "a", pgfleet.Options{})
	walk(t, s, nil, legacy)
	lapse(t, s, "a")
	g, err := a.Join(t.Context(), dual.Identity{Instance: "a", Previous: a.grant.Lease})
	must(t, err)
	if f, _ := fleetOf(t, s); f.Behind != 1 || len(f.LiveRoutes) != 2 {
		t.Errorf("%+v", f)
	}
	_, err = a.Renew(t.Context(), g.Lease, g.Route.Epoch)
	must(t, err)
	if f, _ := fleetOf(t, s); !f.Settled() {
		t.Errorf("%+v", f)
	}
}

// A renewal that began in time can't commit after a transition that reads the lease as
// lapsed: while the transition has the row, the renewal waits, and is then refused as too
// late.
func TestARenewalAndATransitionAgreeOnWhoIsLive(t *testing.T) {
	overEach(t, aRenewalAndATransitionAgreeOnWhoIsLive)
}

func aRenewalAndATransitionAgreeOnWhoIsLive(t *testing.T, s *state.Store, v over) {
	walk(t, s, nil, shadowWrite)
	a := v.join(t, "a", pgfleet.Options{Lease: time.Minute})
	walk(t, s, nil, legacy)
	renewed := make(chan error, 1)
	_, err := s.Transition(t.Context(), testMigration, func(e phases.Snapshot) (phases.Move, error) {
		go func() { _, err := a.Renew(t.Context(), a.grant.Lease, 3); renewed <- err }()
		testenv.Await(t, "the renewal to wait", func() bool {
			return value[int64](t, s, `SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
				AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`) == 1
		})
		lapse(t, s, "a")
		return phases.Move{}, errors.New("enough")
	})
	if err == nil {
		t.Fatal("the transition committed")
	}
	if err := <-renewed; !errors.Is(err, dual.ErrLeaseLost) {
		t.Errorf("renewed: %v", err)
	}
}

func TestNotificationsComeAtOnceAndAfterAReconnect(t *testing.T) {
	for name, connect := range map[string]func(t *testing.T, s *state.Store, url string) over{
		"PostgreSQL": func(_ *testing.T, s *state.Store, _ string) over { return overPostgres(s) }, "HTTP": overHTTP,
	} {
		t.Run(name, func(t *testing.T) {
			s, url := open(t)
			notifications(t, s, connect(t, s, url))
		})
	}
}

func notifications(t *testing.T, s *state.Store, v over) {
	other := applied()
	other.Migration = "users"
	_, _, err := s.Apply(t.Context(), other)
	must(t, err)
	_, err = s.Transition(t.Context(), "users", func(e phases.Snapshot) (phases.Move, error) { return phases.Move{To: shadowWrite}, nil })
	if err == nil || !strings.Contains(err.Error(), "cause") {
		t.Errorf("a move without cause: %v", err)
	}
	otherMoves := func(to phases.Route, cause phases.Cause) {
		t.Helper()
		_, err := s.Transition(t.Context(), "users", func(e phases.Snapshot) (phases.Move, error) {
			return phases.Move{From: e.Status.Route, To: to, Cause: cause}, nil
		})
		must(t, err)
	}
	otherMoves(shadowWrite, phases.CauseAdvance)
	ignoring := goleak.IgnoreCurrent()
	ctx, cancel := context.WithCancel(t.Context())
	hints := make(chan int64, 100)
	done := make(chan error)
	f := v.connect(testMigration, pgfleet.Options{})
	go func() { done <- f.Notifications(ctx, func(e int64) { hints <- e }) }()
	next := func(want int64) {
		t.Helper()
		select {
		case got := <-hints:
			if got != want {
				t.Errorf("hint %d, want %d", got, want)
			}
		case <-time.After(time.Minute):
			t.Fatalf("no hint at epoch %d", want)
		}
	}
	next(1)
	otherMoves(phases.Route{Phase: phases.Legacy}, phases.CauseRollback) // its third epoch, of which f is not notified
	walk(t, s, nil, shadowWrite)
	next(2)
	exec(t, s, `SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity
		WHERE datname = current_database() AND (query = 'LISTEN migrator' OR query LIKE '%phase, percent, epoch FROM migrator.migrations%') AND pid <> pg_backend_pid()`)
	walk(t, s, nil, dualRead)
	for got := range hints {
		if got == 3 {
			break
		}
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("ended with %v", err)
	}
	if v.http { // its connections are kept for the next request
		return
	}
	goleak.VerifyNone(t, ignoring, goleak.IgnoreTopFunction("github.com/jackc/pgx/v5/pgxpool.(*Pool).backgroundHealthCheck"),
		// Of a session of the pool whose last write was slow, until its next answer.
		goleak.IgnoreAnyFunction("github.com/jackc/pgx/v5/pgconn/internal/bgreader.(*BGReader).bgRead"))
}

// A server that is down, frozen or killed costs a fleet errors, never a wrong answer.
func TestAFleetOutlivesItsDatabase(t *testing.T) {
	t.Parallel()
	for _, http := range []bool{false, true} {
		t.Run(map[bool]string{false: "PostgreSQL", true: "HTTP"}[http], func(t *testing.T) {
			t.Parallel()
			server := testenv.Postgres(t)
			s := openAt(t, server.URL())
			v := overPostgres(s)
			if http {
				v = overHTTP(t, s, server.URL())
			}
			outlive(t, server, v)
		})
	}
}

func outlive(t *testing.T, server *testenv.PostgresServer, v over) {
	a := v.join(t, "a", pgfleet.Options{Lease: time.Minute})
	ctx, cancel := context.WithCancel(t.Context())
	hints := make(chan int64, 100)
	done := make(chan error)
	go func() { done <- a.Notifications(ctx, func(e int64) { hints <- e }) }()
	<-hints
	must(t, server.Pause())
	frozen, stop := context.WithTimeout(t.Context(), 100*time.Millisecond)
	if _, err := a.Renew(frozen, a.grant.Lease, 1); err == nil {
		t.Error("renewed on a frozen server")
	}
	stop()
	must(t, server.Resume())
	must(t, server.Kill())
	if _, err := a.Renew(t.Context(), a.grant.Lease, 1); err == nil || errors.Is(err, dual.ErrLeaseLost) || v.http && !isProblem(err, "state-unreachable") {
		t.Errorf("on a dead server: %v", err)
	}
	f := v.connect(testMigration, pgfleet.Options{})
	if !v.http {
		opened, err := pgfleet.Open(t.Context(), server.URL(), testMigration, pgfleet.Options{})
		must(t, err)
		defer opened.Close()
		f = opened
	}
	if _, err := f.Join(t.Context(), dual.Identity{}); err == nil {
		t.Error("joined on a dead server")
	}
	must(t, server.Restart(t.Context()))
	testenv.Await(t, "the lease to be renewed", func() bool { _, err := a.Renew(t.Context(), a.grant.Lease, 1); return err == nil })
	if _, err := f.Join(t.Context(), dual.Identity{}); err != nil {
		t.Errorf("join after the restart: %v", err)
	}
	if !v.http { // a daemon's stream goes on
		if e := <-hints; e != 1 {
			t.Errorf("hint %d after the restart", e)
		}
	}
	cancel()
	<-done
}

// TestALeaseWhoseReplyWasLostBelongsToItsProcess: it ends with the next join, and
// blocks nothing.
func TestALeaseWhoseReplyWasLostBelongsToItsProcess(t *testing.T) {
	overEach(t, aLeaseWhoseReplyWasLostBelongsToItsProcess)
}

func aLeaseWhoseReplyWasLostBelongsToItsProcess(t *testing.T, s *state.Store, v over) {
	walk(t, s, nil, shadowWrite)
	a := v.join(t, "a", pgfleet.Options{})
	b := v.join(t, "b", pgfleet.Options{})
	who := dual.Identity{Instance: "a", Previous: a.grant.Lease}
	for range 2 { // the replies never arrive
		_, err := a.Join(t.Context(), who)
		must(t, err)
	}
	last, err := a.Join(t.Context(), who)
	must(t, err)
	if f, st := fleetOf(t, s); f.Live != 2 || len(f.Lapsed) != 0 || !st.Dirty.IsZero() {
		t.Errorf("%+v, dirty %v", f, st.Dirty)
	}
	// One more, which was delayed on its way: it replaces the lease that it ends.
	late, err := a.Join(t.Context(), who)
	must(t, err)
	if f, _ := fleetOf(t, s); f.Live != 2 || late.Route.Epoch != 2 {
		t.Errorf("%+v", f)
	}
	if _, err := a.Renew(t.Context(), last.Lease, 2); !errors.Is(err, dual.ErrLeaseLost) {
		t.Errorf("renewed: %v", err)
	}
	g, err := a.Join(t.Context(), dual.Identity{Instance: "a", Previous: last.Lease})
	must(t, err)
	must(t, a.Leave(t.Context(), g.Lease))
	if f, st := fleetOf(t, s); f.Live != 1 || len(f.Lapsed) != 0 || !st.Dirty.IsZero() {
		t.Errorf("after it has left: %+v, dirty %v", f, st.Dirty)
	}
	if _, err := b.Renew(t.Context(), b.grant.Lease, 2); err != nil {
		t.Errorf("another instance: %v", err)
	}
}

// TestATakenNameHoldsTheFirstRoute: two processes share a name by mistake. The first one can't
// renew its lease, and its route counts until that lease would have run out.
func TestATakenNameHoldsTheFirstRoute(t *testing.T) { overEach(t, aTakenNameHoldsTheFirstRoute) }

func aTakenNameHoldsTheFirstRoute(t *testing.T, s *state.Store, v over) {
	first := v.join(t, "a", pgfleet.Options{Lease: 5 * time.Minute})
	second := v.join(t, "a", pgfleet.Options{Lease: 5 * time.Minute})
	if _, err := first.Renew(t.Context(), first.grant.Lease, 1); !errors.Is(err, dual.ErrLeaseLost) {
		t.Errorf("renewed: %v", err)
	}
	st, err := move(t.Context(), s, shadowWrite)
	must(t, err)
	second.ack(t, st.Route.Epoch)
	var conflict *phases.RouteConflictError
	if _, err := move(t.Context(), s, dualRead); !errors.As(err, &conflict) || conflict.Live.Phase != phases.Legacy {
		t.Errorf("the first process may be on legacy yet: %v", err)
	}
	exec(t, s, `UPDATE migrator.leases SET ended_at = clock_timestamp() WHERE id = $1`, first.grant.Lease)
	_, err = move(t.Context(), s, dualRead)
	must(t, err)
}

func isProblem(err error, code string) bool {
	var refused *httpfleet.Error
	return errors.As(err, &refused) && refused.Code == code
}
