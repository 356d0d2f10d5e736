package state_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/dual/pgfleet"
	"github.com/stranglerfig/migrator/internal/drill"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/statedb"
	"github.com/stranglerfig/migrator/phases"
)

// stagedBy is staged, over one of the ways to the state.
func stagedBy(t *testing.T, s *state.Store, v over) *instance {
	t.Helper()
	a := applied()
	a.Environment = statedb.Staging
	_, _, err := s.Apply(t.Context(), a)
	must(t, err)
	i := v.join(t, "shop", pgfleet.Options{})
	walk(t, s, []*instance{i}, shadowWrite, dualRead, cutover)
	return i
}

// staged is the migration where faults may be injected, in cutover with one instance.
func staged(t *testing.T) (*state.Store, *instance) {
	t.Helper()
	s, _ := open(t)
	return s, stagedBy(t, s, overPostgres(s))
}

func aFault(id string) dual.Fault {
	return dual.Fault{ID: id, Kind: dual.FaultErrors, Share: 2500, Delay: 50 * time.Millisecond, Reads: true, For: time.Hour}
}

// TestAFaultReachesInstances: instances get it as it was injected, one at a time, and
// their reports can be read.
func TestAFaultReachesInstances(t *testing.T) { overEach(t, aFaultReachesInstances) }

func aFaultReachesInstances(t *testing.T, s *state.Store, v over) {
	i := stagedBy(t, s, v)
	ctx := t.Context()
	none, err := i.Fault(ctx, i.grant.Lease, dual.FaultReport{})
	if err != nil || none.ID != "" {
		t.Fatalf("%+v, %v", none, err)
	}
	want := aFault("f1")
	must(t, s.InjectFault(ctx, testMigration, want))
	if err := s.InjectFault(ctx, testMigration, aFault("f2")); err == nil {
		t.Error("two faults at once")
	}
	got, err := i.Fault(ctx, i.grant.Lease, dual.FaultReport{})
	must(t, err)
	if got.For <= 0 || got.For >= want.For {
		t.Errorf("it lasts %s", got.For)
	}
	if got.For = want.For; got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	players := func() drill.FaultTarget {
		t.Helper()
		all, err := s.FaultTargets(ctx, testMigration, "f1")
		must(t, err)
		if len(all) != 1 || all[0].Instance != "shop" {
			t.Fatalf("%+v", all)
		}
		return all[0]
	}
	if p := players(); p.Armed || p.Executed != 0 || !p.First.IsZero() {
		t.Errorf("before its report: %+v", p)
	}
	_, err = i.Fault(ctx, i.grant.Lease, dual.FaultReport{ID: "f1"})
	must(t, err)
	if p := players(); !p.Armed || p.Executed != 0 {
		t.Errorf("armed: %+v", p)
	}
	_, err = i.Fault(ctx, i.grant.Lease, dual.FaultReport{ID: "f1", Executed: 7, FirstAge: 3 * time.Second})
	must(t, err)
	p := players()
	age := value[float64](t, s, `SELECT extract(epoch FROM clock_timestamp() - $1::timestamptz)::float8`, p.First)
	if p.Executed != 7 || age < 3 || age > 600 {
		t.Errorf("%+v, first %f s ago", p, age)
	}
	must(t, s.LiftFault(ctx, testMigration, "another's"))
	if f, err := i.Fault(ctx, i.grant.Lease, dual.FaultReport{ID: "f1", Executed: 8}); err != nil || f.ID != "f1" {
		t.Errorf("%+v, %v", f, err)
	}
	must(t, s.LiftFault(ctx, testMigration, "f1"))
	if f, err := i.Fault(ctx, i.grant.Lease, dual.FaultReport{ID: "f1", Executed: 8}); err != nil || f.ID != "" {
		t.Errorf("lifted, it is handed out: %+v, %v", f, err)
	}
	for _, report := range []dual.FaultReport{{ID: "f1", Executed: 9, FirstAge: 5 * time.Second, Over: true}, {}} {
		_, err = i.Fault(ctx, i.grant.Lease, report)
		must(t, err)
		if p := players(); p.Armed || p.Executed != 9 || p.First.IsZero() {
			t.Errorf("after the report %+v: %+v", report, p)
		}
	}
	if all, err := s.FaultTargets(ctx, testMigration, "f2"); err != nil || len(all) != 1 || all[0].Executed != 0 || !all[0].First.IsZero() {
		t.Errorf("of another fault: %+v, %v", all, err)
	}
	exec(t, s, `UPDATE migrator.leases SET expires_at = clock_timestamp()`)
	if all, err := s.FaultTargets(ctx, testMigration, "f1"); err != nil || len(all) != 0 {
		t.Errorf("a lapsed instance is a target: %+v, %v", all, err)
	}
}

// TestFaultsAreForStaging: outside staging no fault is injected: not by an operator, not by
// SQL, and not by a migration file that changes the environment.
func TestFaultsAreForStaging(t *testing.T) {
	t.Parallel()
	s, i := staged(t)
	ctx := t.Context()
	must(t, s.InjectFault(ctx, testMigration, aFault("f1")))
	_, _, err := s.Apply(ctx, applied())
	must(t, err)
	if f, err := i.Fault(ctx, i.grant.Lease, dual.FaultReport{}); err != nil || f.ID != "" {
		t.Errorf("in another environment: %+v, %v", f, err)
	}
	if err := s.InjectFault(ctx, testMigration, aFault("f2")); !errors.Is(err, state.ErrNotStaging) {
		t.Errorf("%v", err)
	}
	if _, err := s.Pool().Exec(ctx, `UPDATE migrator.migrations SET fault = '{"id":"f3"}', fault_until = 'infinity'`); err == nil || !strings.Contains(err.Error(), "faults_in_staging") {
		t.Errorf("by hand: %v", err)
	}
}

// TestFaultsEnd: the expiry is not optional, and no fault is injected where only the
// target has the records.
func TestFaultsEnd(t *testing.T) {
	t.Parallel()
	s, i := staged(t)
	ctx := t.Context()
	for _, d := range []time.Duration{0, -time.Second, 2 * time.Hour} {
		f := aFault("f1")
		f.For = d
		if err := s.InjectFault(ctx, testMigration, f); err == nil {
			t.Errorf("a fault of %s", d)
		}
	}
	if err := s.InjectFault(ctx, testMigration, aFault("")); err == nil {
		t.Error("a fault without id")
	}
	must(t, s.InjectFault(ctx, testMigration, aFault("f1")))
	exec(t, s, `UPDATE migrator.migrations SET fault_until = clock_timestamp()`)
	if f, err := i.Fault(ctx, i.grant.Lease, dual.FaultReport{ID: "f1"}); err != nil || f.ID != "" {
		t.Errorf("past its end: %+v, %v", f, err)
	}
	must(t, s.InjectFault(ctx, testMigration, aFault("f2"))) // in its place
	must(t, s.LiftFault(ctx, testMigration, "f2"))
	for _, r := range []phases.Route{grace, fencedRoute} {
		walk(t, s, []*instance{i}, r)
	}
	if err := s.InjectFault(ctx, testMigration, aFault("f3")); err == nil || !strings.Contains(err.Error(), "fenced") {
		t.Errorf("while authority moves: %v", err)
	}
}
