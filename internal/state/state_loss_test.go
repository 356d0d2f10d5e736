package state_test

import (
	"context"
	"errors"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/dual/pgfleet"
	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/phases"
)

// restorable is a state database that can be put back to an earlier copy of its
// files while instances continue.
type restorable struct {
	t     *testing.T
	store *state.Store
	admin *pgx.Conn
	name  string
}

func newRestorable(t *testing.T, s *state.Store, dbURL string) *restorable {
	t.Helper()
	u, err := url.Parse(dbURL)
	must(t, err)
	r := &restorable{t: t, store: s, name: strings.TrimPrefix(u.Path, "/")}
	u.Path = "/postgres"
	r.admin, err = pgx.Connect(t.Context(), u.String())
	must(t, err)
	t.Cleanup(func() { _ = r.admin.Close(context.WithoutCancel(t.Context())) })
	return r
}

func (r *restorable) backUp() {
	r.t.Helper()
	r.cutOff()
	r.exec(`CREATE DATABASE ` + r.name + `_backup TEMPLATE ` + r.name)
	r.exec(`ALTER DATABASE ` + r.name + ` ALLOW_CONNECTIONS true`)
}

func (r *restorable) restore() {
	r.t.Helper()
	r.cutOff()
	r.exec(`DROP DATABASE ` + r.name)
	r.exec(`ALTER DATABASE ` + r.name + `_backup RENAME TO ` + r.name)
}

func (r *restorable) cutOff() {
	r.t.Helper()
	r.exec(`ALTER DATABASE ` + r.name + ` ALLOW_CONNECTIONS false`)
	testenv.Await(r.t, "every session to end", func() bool {
		var left int
		r.exec(`SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE datname = '` + r.name + `'`)
		must(r.t, r.admin.QueryRow(r.t.Context(), `SELECT count(*) FROM pg_stat_activity WHERE datname = $1`, r.name).Scan(&left))
		return left == 0
	})
	r.store.Pool().Reset()
}

func (r *restorable) exec(sql string) {
	r.t.Helper()
	_, err := r.admin.Exec(r.t.Context(), sql)
	must(r.t, err)
}

// alive runs a real instance until the test ends, with short leases.
func alive(t *testing.T, dbURL, name string) *dual.Instance {
	t.Helper()
	f, err := pgfleet.Open(t.Context(), dbURL, testMigration, pgfleet.Options{})
	must(t, err)
	i, err := dual.Join(t.Context(), dual.Config{Fleet: f, Identity: dual.Identity{Instance: name}})
	must(t, err)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- i.Run(ctx) }()
	t.Cleanup(func() { stop(); <-done; f.Close() })
	return i
}

// shortLeases is a migration in legacy whose leases are short.
func shortLeases(t *testing.T) (*state.Store, string) {
	t.Helper()
	s, dbURL := open(t)
	a := applied()
	a.ConfigHash, a.Config = "short", []byte(`{"name":"products","fleet":{"lease":"3s","renew":"200ms"}}`)
	_, _, err := s.Apply(t.Context(), a)
	must(t, err)
	return s, dbURL
}

func follow(t *testing.T, s *state.Store, i *dual.Instance, routes ...phases.Route) phases.Route {
	t.Helper()
	var at phases.Route
	for _, to := range routes {
		testenv.Await(t, "a lease that may have lapsed on a busy machine", func() bool {
			st, err := move(t.Context(), s, to)
			at = st.Route
			return err == nil
		})
		settled(t, s, i, at)
	}
	return at
}

// settled waits until the instance is on the route and the state knows.
func settled(t *testing.T, s *state.Store, i *dual.Instance, at phases.Route) {
	t.Helper()
	testenv.Await(t, "the instance to acknowledge "+at.String(), func() bool {
		e, err := s.Snapshot(t.Context(), testMigration)
		return err == nil && i.Route() == at && e.Fleet.Settled() && e.Fleet.Live > 0
	})
}

func lost(t *testing.T, s *state.Store) phases.Status {
	t.Helper()
	var st phases.Status
	testenv.Await(t, "the instance to be a witness", func() bool {
		var err error
		st, err = s.Status(t.Context(), testMigration)
		return err == nil && st.StateLoss != nil
	})
	return st
}

func reclaim(ctx context.Context, s *state.Store, to phases.Route) (phases.Status, error) {
	return s.Transition(ctx, testMigration, func(e phases.Snapshot) (phases.Move, error) {
		return phases.Move{From: e.Status.Route, To: to, Reclaim: true, Cause: phases.CauseRollback, Reason: "test"}, nil
	})
}

func TestAnInstanceLivesThroughARestoreOfAnOlderBackupAndIsReclaimed(t *testing.T) {
	t.Parallel()
	s, dbURL := shortLeases(t)
	db := newRestorable(t, s, dbURL)
	i := alive(t, dbURL, "till-7")
	old := follow(t, s, i, shadowWrite, dualRead)
	db.backUp()
	ahead := follow(t, s, i, cutover5, cutover)
	db.restore()

	st := lost(t, s)
	if st.Route != old || st.StateLoss.Route != ahead || st.StateLoss.Instance != "till-7" {
		t.Errorf("restored: %+v, lost %+v", st.Route, st.StateLoss)
	}
	if i.Route() != ahead {
		t.Errorf("the instance went back to %v", i.Route())
	}
	e, err := s.Snapshot(t.Context(), testMigration)
	must(t, err)
	gates := phases.Gates(phases.Route{Phase: phases.Cutover, Percent: 500}, phases.DefaultSettings(), e)
	if g := gates[0]; g.Gate != "state-whole" || g.Open() || !g.Interlock || !strings.Contains(g.Detail, "till-7 has been at epoch 5 (cutover 100 %)") {
		t.Errorf("gate: %+v", g)
	}
	if e.Status.Dirty.IsZero() {
		t.Error("the journal's loss left no mark")
	}
	if _, err := move(t.Context(), s, cutover5); does(err) != hint.Reclaim {
		t.Errorf("an advance: %v", err)
	}
	if _, err := move(t.Context(), s, shadowWrite); does(err) != hint.Reclaim {
		t.Errorf("a rollback to what must not run beside the instance: %v", err)
	}

	st, err = reclaim(t.Context(), s, dualRead)
	must(t, err)
	if st.Route.Epoch != ahead.Epoch+1 || st.StateLoss != nil {
		t.Errorf("reclaimed: %+v", st)
	}
	settled(t, s, i, st.Route)
	if n, err := s.VerifyHistory(t.Context(), testMigration); err != nil {
		t.Errorf("history after %d: %v", n, err)
	}
	e, err = s.Snapshot(t.Context(), testMigration)
	must(t, err)
	for _, g := range phases.Gates(cutover5, phases.DefaultSettings(), e) {
		if g.Gate == "state-whole" && !g.Open() || g.Gate == "no-lost-queue" && g.Open() {
			t.Errorf("after the reclaim: %+v", g)
		}
	}
}

func TestAReclaimToAPhaseThatDoesNotKeepTheTargetWaitsForLeasesFromBefore(t *testing.T) {
	t.Parallel()
	s, dbURL := shortLeases(t)
	db := newRestorable(t, s, dbURL)
	i := alive(t, dbURL, "a")
	db.backUp()
	ahead := follow(t, s, i, shadowWrite, dualRead, cutover)
	db.restore()
	st := lost(t, s)
	waited := false
	testenv.Await(t, "the leases from before to be over", func() bool {
		after, err := reclaim(t.Context(), s, legacy)
		var conflict *phases.RouteConflictError
		switch {
		case err == nil:
			if after.RouteSince.Before(st.StateLoss.LeasesOver) {
				t.Errorf("at %s, before %s", after.RouteSince, st.StateLoss.LeasesOver)
			}
			settled(t, s, i, after.Route)
			return true
		case !errors.As(err, &conflict) || conflict.Live.Epoch != ahead.Epoch:
			t.Fatal(err)
		}
		waited = true
		return false
	})
	if !waited {
		t.Error("nothing was waited for")
	}
}

func TestAStateLossReportCountsOnlyForUnknownEpochs(t *testing.T) {
	overEach(t, aStateLossReportCountsOnlyForUnknownEpochs)
}

func aStateLossReportCountsOnlyForUnknownEpochs(t *testing.T, s *state.Store, v over) {
	walk(t, s, nil, shadowWrite, dualRead)
	a := v.join(t, "a", pgfleet.Options{})
	for _, known := range []phases.Route{{Phase: phases.DualRead, Percent: phases.All, Epoch: 3}, {Phase: phases.Legacy, Epoch: 1}} {
		must(t, a.ReportStateLoss(t.Context(), known))
	}
	if st, err := s.Status(t.Context(), testMigration); err != nil || st.StateLoss != nil || !st.Dirty.IsZero() {
		t.Errorf("%+v, %v", st.StateLoss, err)
	}
	if err := a.ReportStateLoss(t.Context(), phases.Route{Phase: phases.Grace, Epoch: 1 << 62}); err == nil {
		t.Error("an epoch was recorded that no instance can have reached")
	}
	must(t, a.ReportStateLoss(t.Context(), phases.Route{Phase: phases.Retain, Epoch: 8}))
	must(t, a.ReportStateLoss(t.Context(), phases.Route{Phase: phases.Grace, Epoch: 6}))
	st := lost(t, s)
	if st.StateLoss.Route != (phases.Route{Phase: phases.Retain, Epoch: 8}) || st.StateLoss.Instance != "a" {
		t.Errorf("%+v", st.StateLoss)
	}
	// Reads may come from the target alone, and writes go to it: no automatic rollback.
	if err := a.RollBack(t.Context(), 3, "test"); err != nil {
		t.Errorf("an emergency rollback where legacy is read already: %v", err)
	}
	if read, err := a.TargetRead(t.Context()); err != nil || !read {
		t.Errorf("the reporting instance may read the target: %v, %v", read, err)
	}
	// Other instances may have those routes, though no lease says so.
	must(t, a.Leave(t.Context(), a.grant.Lease))
	f, _ := fleetOf(t, s)
	if !slices.ContainsFunc(f.LiveRoutes, func(r phases.Route) bool { return r.Phase == phases.Retain && r.Epoch == 8 }) {
		t.Errorf("without a lease, live are %v", f.LiveRoutes)
	}
}

// TestAReclaimIsAMarkOfItsOwn: it may follow a restore that no instance has reported.
func TestAReclaimIsAMarkOfItsOwn(t *testing.T) {
	t.Parallel()
	s, _ := open(t)
	walk(t, s, nil, shadowWrite, dualRead)
	_, err := s.Transition(t.Context(), testMigration, func(e phases.Snapshot) (phases.Move, error) {
		return phases.Move{From: e.Status.Route, To: dualRead, Reclaim: true, Cause: phases.CauseRollback, Reason: "test"}, nil
	})
	must(t, err)
	if st, err := s.Status(t.Context(), testMigration); err != nil || st.Dirty.IsZero() {
		t.Errorf("on %s, dirty %v, %v", st.Route, st.Dirty, err)
	}
}
