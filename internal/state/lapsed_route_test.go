package state_test

import (
	"errors"
	"testing"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/dual/pgfleet"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/phases"
)

// jump puts the migration on a route in a new epoch, without the checks of a move.
func jump(t *testing.T, s *state.Store, to phases.Route) {
	t.Helper()
	exec(t, s, `WITH m AS (UPDATE migrator.migrations SET epoch = epoch + 1, phase = $1, percent = $2 RETURNING name, epoch)
		INSERT INTO migrator.epochs SELECT name, epoch, $1, $2, clock_timestamp() FROM m`, string(to.Phase), int(to.Percent))
}

// TestAWriteRespectsALapsedLeaseThatReadsTheTargetAlone: an instance that was cut off on
// fenced to complete reads the target, lapsed or not [lapsed-held]. So the target is
// still read, whatever the present route is, and no write may take the route past
// grace. An instance that was cut off where it falls back to legacy blocks no other.
func TestAWriteRespectsALapsedLeaseThatReadsTheTargetAlone(t *testing.T) {
	t.Parallel()
	s, _ := open(t)
	for _, c := range []struct {
		cutOff phases.Route
		held   bool
	}{
		{dualRead, false},
		{cutover5, false},
		{cutover, false},
		{grace, false},
		{fencedRoute, true},
		{phases.Route{Phase: phases.Lifting}, true},
		{phases.Route{Phase: phases.Returning}, true},
		{retain, true},
		{phases.Route{Phase: phases.Complete}, true},
	} {
		t.Run(c.cutOff.String(), func(t *testing.T) {
			exec(t, s, `DELETE FROM migrator.leases`)
			jump(t, s, c.cutOff)
			join(t, s, "cut off", pgfleet.Options{})
			lapse(t, s, "cut off")
			jump(t, s, dualRead)
			a := join(t, s, "a", pgfleet.Options{})
			if read, err := a.TargetRead(t.Context()); err != nil || read != c.held {
				t.Errorf("the target is read: %v (%v), want %v", read, err, c.held)
			}
			ruling, err := a.Journal(t.Context(), []dual.JournalEntry{{Key: "k", Reason: "refused"}})
			if err != nil || ruling.TargetRead != c.held || ruling.Fenced {
				t.Errorf("the journal returned %+v (%v), want the target to be read: %v", ruling, err, c.held)
			}
			jump(t, s, grace)
			_, st := fleetOf(t, s)
			a.ack(t, st.Route.Epoch)
			err = a.RollBack(t.Context(), st.Route.Epoch, "refused")
			_, st = fleetOf(t, s)
			var conflict *phases.RouteConflictError
			if refused := errors.As(err, &conflict); refused != c.held || (st.Route.Phase == phases.Grace) != c.held {
				t.Errorf("an emergency rollback: %v, now at %s; want a refusal: %v", err, st.Route, c.held)
			}
		})
	}
}

// TestLiveRoutesAreReadOnce: a lease that ends while the routes are read is in both of the answer's lists, or
// in neither.
func TestLiveRoutesAreReadOnce(t *testing.T) {
	t.Parallel()
	s, _ := open(t)
	exec(t, s, `INSERT INTO migrator.epochs (migration, epoch, phase, percent, began_at) SELECT 'products', 1 + i, 'shadow-write', 0, now() FROM generate_series(1, 2000) i`)
	exec(t, s, `INSERT INTO migrator.leases (id, migration, instance, about, acknowledged_epoch, joined_at, renewed_at, expires_at, origin)
		SELECT 'l' || i, 'products', 'i' || i, '', 1 + i, now(), now(), clock_timestamp() + interval '300 milliseconds' + i * interval '0.2 milliseconds', 'l' || i FROM generate_series(1, 2000) i`)
	for left := 1; left > 0; {
		var shares int
		must(t, s.Pool().QueryRow(t.Context(), `SELECT cardinality(live_phases), cardinality(live_percents) FROM migrator.route('products')`).Scan(&left, &shares))
		if left != shares {
			t.Fatalf("%d phases, %d shares", left, shares)
		}
	}
}
