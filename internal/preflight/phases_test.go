package preflight

import (
	"slices"
	"testing"

	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/phases"
)

func TestPlannedPhasesListsPhasesAhead(t *testing.T) {
	t.Parallel()
	m := &migration.Config{}
	m.Defaults()
	planned := plannedPhases(m.Settings())
	if len(planned) != len(phases.Order) {
		t.Fatalf("%d phases", len(planned))
	}
	for i, p := range planned {
		if p.Phase != phases.Order[i] || (i > 0) != (len(p.Gates) > 0) || p.Phase.Ramped() != (p.Steps != "") {
			t.Errorf("%+v", p)
		}
	}
	if last := planned[len(planned)-1]; last.Rollback != string(phases.Impossible) {
		t.Errorf("%+v", last)
	}
	if cutover := planned[phases.Cutover.Position()]; !slices.Contains(cutover.Gates, "reconcile-clean") || cutover.Rollback != string(phases.LosslessNow) {
		t.Errorf("%+v", cutover)
	}
	irreversible := false
	s := m.Settings()
	s.Retain.Reversible = &irreversible
	if retain := plannedPhases(s)[phases.Retain.Position()]; retain.Rollback != string(phases.Impossible) {
		t.Errorf("%+v", retain)
	}
}
