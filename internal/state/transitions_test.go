package state_test

import (
	"testing"

	"github.com/stranglerfig/migrator/dual/pgfleet"
	"github.com/stranglerfig/migrator/phases"
)

func TestChangesOfRoute(t *testing.T) {
	t.Parallel()
	s, _ := open(t)
	if all, err := s.Changes(t.Context(), testMigration); err != nil || len(all) != 0 {
		t.Fatalf("before the first: %+v, %v", all, err)
	}
	walk(t, s, nil, shadowWrite)
	a := join(t, s, "a", pgfleet.Options{})
	must(t, s.Pause(t.Context(), testMigration, "lunch")) // which changes no route
	must(t, s.Resume(t.Context(), testMigration, ""))
	walk(t, s, nil, dualRead)
	all, err := s.Changes(t.Context(), testMigration)
	must(t, err)
	if len(all) != 2 || !all[0].Superseded || all[1].Superseded || !all[1].Settled.IsZero() {
		t.Fatalf("before it is acknowledged: %+v", all)
	}
	a.ack(t, 3)
	if all, err = s.Changes(t.Context(), testMigration); err != nil || len(all) != 2 {
		t.Fatalf("%+v, %v", all, err)
	}
	last := all[1]
	if last.From != phases.ShadowWrite || last.To != phases.DualRead || last.Cause != phases.CauseAdvance || last.At.IsZero() || last.Settled.Before(last.At) {
		t.Errorf("the last: %+v", last)
	}
}
