package reconcile_test

import (
	"context"
	"errors"
	"testing"

	"github.com/stranglerfig/migrator/internal/test/pairtest"
)

// TestWhatIsUnderWayIsNoDifference: suspects are read again once what brings changes has caught up, however long that
// takes.
func TestWhatIsUnderWayIsNoDifference(t *testing.T) {
	t.Parallel()
	p := pairtest.New(t, pairtest.Options{})
	p.FillSimple(t, 0, 100)
	runBackfill(t, p)
	p.Exec(t, `UPDATE items SET name = 'late' WHERE id < 10`)
	rc, _ := reconciler(p)
	calls := 0
	rc.CaughtUp = func(context.Context) error {
		if calls++; calls == 1 {
			runBackfill(t, p) // brings it
		}
		return nil
	}
	wantClean(t, rc)
	if calls == 0 {
		t.Error("it was not awaited")
	}
	p.Exec(t, `UPDATE items SET name = 'later' WHERE id < 10`)
	gone := errors.New("nothing captures")
	rc.CaughtUp = func(context.Context) error { return gone }
	if r, _, err := rc.Run(t.Context(), full); !errors.Is(err, gone) {
		t.Errorf("%+v, %v", r, err)
	}
}
