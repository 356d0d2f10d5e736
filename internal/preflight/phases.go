package preflight

import "github.com/stranglerfig/migrator/phases"

// PlannedPhase is a phase as the migration file has it.
type PlannedPhase struct {
	Phase    phases.Phase    `json:"phase"`
	Steps    string          `json:"steps,omitempty"`
	AtLeast  phases.Duration `json:"at_least,omitempty"`
	Gates    []string        `json:"gates"` // on the way in
	Rollback string          `json:"rollback"`
}

// plannedPhases lists the phases ahead, with the gates that are evaluated before each.
func plannedPhases(s phases.Settings) []PlannedPhase {
	var planned []PlannedPhase
	from := phases.Route{Phase: phases.Legacy}
	for i, p := range phases.Order {
		entry := PlannedPhase{Phase: p, Rollback: rollbackClass(p, s)}
		if i > 0 {
			from = phases.Route{Phase: phases.Order[i-1]}
			if from.Phase.Ramped() {
				from.Percent = phases.All
			}
			to := phases.Route{Phase: p}
			if p.Ramped() {
				to.Percent = 1
			}
			e := phases.Snapshot{Status: phases.Status{Route: from}}
			for _, g := range phases.Gates(to, s, e) {
				entry.Gates = append(entry.Gates, g.Gate)
			}
		}
		entry.Steps, entry.AtLeast = stay(p, s)
		planned = append(planned, entry)
	}
	return planned
}

func stay(p phases.Phase, s phases.Settings) (steps string, least phases.Duration) {
	ramp := func(r phases.Ramp) (string, phases.Duration) {
		text := ""
		for i, step := range r.Steps {
			if i > 0 {
				text += ", "
			}
			text += step.String()
		}
		return text + " %", r.Over
	}
	switch p {
	case phases.ShadowWrite:
		return "", s.ShadowWrite.For
	case phases.DualRead:
		return ramp(s.DualRead)
	case phases.Cutover:
		return ramp(s.Cutover.Ramp)
	case phases.Grace:
		return "", s.Grace.For
	case phases.Retain:
		return "", s.Retain.For
	default:
		return "", 0
	}
}

func rollbackClass(p phases.Phase, s phases.Settings) string {
	reversible := s.Retain.Reversible == nil || *s.Retain.Reversible
	return string(phases.ClassOf(phases.Status{Route: phases.Route{Phase: p}, Reversible: reversible}).Class)
}
