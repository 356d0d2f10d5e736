package phases

import (
	"errors"
	"fmt"
	"time"
)

// Settings are all settings that decide on a migration's moves.
type Settings struct {
	Schedule
	Gates    GateSettings
	Triggers TriggerSettings
	Capture  CaptureMode // which of its writers the migration has
}

// Schedule is each phase's shortest duration and ramp, and the approvals.
type Schedule struct {
	ShadowWrite Stay         `yaml:"shadow_write" json:"shadow_write,omitzero" jsonschema_description:"Writes reach the target in the background"`
	DualRead    Ramp         `yaml:"dual_read" json:"dual_read,omitzero" jsonschema_description:"Writes are acknowledged when both stores have them; a share of reads is compared"`
	Cutover     ComparedRamp `yaml:"cutover" json:"cutover,omitzero" jsonschema_description:"The target answers for a share of keys"`
	Grace       ComparedStay `yaml:"grace" json:"grace,omitzero" jsonschema_description:"The target answers, legacy is still written"`
	Retain      Retained     `yaml:"retain" json:"retain,omitzero" jsonschema_description:"Legacy is fenced and kept"`
	Approval    Approver     `yaml:"approval" json:"approval,omitzero" jsonschema_description:"Who decides"`
}

// Stay is a phase without a ramp.
type Stay struct {
	For Duration `yaml:"for" json:"for,omitempty" jsonschema_description:"Shortest stay, such as 24h or 30d"`
}

// ComparedStay is a phase without a ramp in which reads are compared.
type ComparedStay struct {
	Stay
	Shadow Shadow `yaml:"shadow" json:"shadow,omitzero" jsonschema_description:"Share of reads that are compared with the other store, in per cent; 0: none; empty: the application's own (1 unless it sets another)"`
}

// ComparedRamp is a phase with percentages of keys, in which reads are compared.
type ComparedRamp struct {
	Ramp
	Shadow Shadow `yaml:"shadow" json:"shadow,omitzero" jsonschema_description:"Share of reads that are compared with the other store, in per cent; 0: none; empty: the application's own (1 unless it sets another)"`
}

// Ramp is a phase with percentages.
type Ramp struct {
	Steps []Percent `yaml:"steps" json:"steps,omitempty" jsonschema_description:"Percentages, rising, the last one 100"`
	Over  Duration  `yaml:"over" json:"over,omitempty" jsonschema_description:"The whole ramp's shortest time; each step takes an equal part"`
	Auto  *bool     `yaml:"auto" json:"auto,omitempty" jsonschema_description:"The daemon advances to the ramp's next percentage when it is due and its gates are open (default true); false: an operator does. Entering a phase is always an operator's step"`
}

// ByItself reports whether the daemon advances the ramp.
func (r Ramp) ByItself() bool { return r.Auto == nil || *r.Auto }

// PerStep is the shortest stay on one step.
func (r Ramp) PerStep() time.Duration {
	if len(r.Steps) == 0 {
		return 0
	}
	return time.Duration(r.Over) / time.Duration(len(r.Steps))
}

// Retained is the phase retain.
type Retained struct {
	For        Duration `yaml:"for" json:"for,omitempty" jsonschema_description:"Shortest stay"`
	Reversible *bool    `yaml:"reversible" json:"reversible,omitempty" jsonschema_description:"Journal the keys written since the fence, so that a rollback loses nothing (default true)"`
}

// Approver are the settings of approvals.
type Approver struct {
	Role    string   `yaml:"role" json:"role,omitempty" jsonschema_description:"PostgreSQL role whose members may approve and override gates; empty: any role that may write the state database"`
	Expires Duration `yaml:"expires" json:"expires,omitempty" jsonschema_description:"How long an approval is valid"`
	For     []Phase  `yaml:"for" json:"for,omitempty" jsonschema_description:"Phases whose entry needs an approval"`
	// TwoPeople has no effect on a phase that For does not name.
	TwoPeople []Phase `yaml:"two_people" json:"two_people,omitempty" jsonschema_description:"Of these phases, those whose entry must be approved by another person than the one who advances"`
}

// DefaultSettings are the settings of a migration file that sets none.
func DefaultSettings() Settings {
	yes := true
	const day = Duration(24 * time.Hour)
	auto := yes
	schedule := Schedule{
		ShadowWrite: Stay{For: day},
		DualRead:    Ramp{Steps: []Percent{100, 500, 1000, 2500, 5000, All}, Over: 14 * day, Auto: &auto},
		Cutover:     ComparedRamp{Ramp: Ramp{Steps: []Percent{100, 500, 2500, 5000, All}, Over: 5 * day, Auto: &auto}},
		Grace:       ComparedStay{Stay: Stay{For: 30 * day}},
		Retain:      Retained{For: 90 * day, Reversible: &yes},
		Approval:    Approver{Expires: day, For: []Phase{Cutover, Retain, Complete}, TwoPeople: []Phase{Complete}},
	}
	return Settings{Schedule: schedule, Gates: DefaultGates(), Triggers: DefaultTriggers()}
}

// Validate returns an error for each invalid setting, with its path.
func (s Settings) Validate() error {
	return errors.Join(s.Schedule.Validate(), s.Gates.Validate(), s.Triggers.Validate())
}

// Validate returns an error for each invalid setting, with its path.
func (s Schedule) Validate() error {
	var wrong []error
	refuse := func(format string, args ...any) { wrong = append(wrong, fmt.Errorf(format, args...)) }
	for _, r := range []struct {
		name  string
		steps []Percent
	}{{"dual_read", s.DualRead.Steps}, {"cutover", s.Cutover.Steps}} {
		for i, step := range r.steps {
			switch {
			case step <= 0 || step > All:
				refuse("phases.%s.steps[%d]: want a percentage above 0 and up to 100", r.name, i)
			case i > 0 && step <= r.steps[i-1]:
				refuse("phases.%s.steps[%d]: %s after %s: steps must rise", r.name, i, step, r.steps[i-1])
			}
		}
		if n := len(r.steps); n == 0 || r.steps[n-1] != All {
			refuse("phases.%s.steps: the last step must be 100", r.name)
		}
	}
	for _, d := range []struct {
		name string
		d    Duration
	}{
		{"shadow_write.for", s.ShadowWrite.For},
		{"dual_read.over", s.DualRead.Over},
		{"cutover.over", s.Cutover.Over},
		{"grace.for", s.Grace.For},
		{"retain.for", s.Retain.For},
	} {
		if d.d < 0 {
			refuse("phases.%s: must not be negative", d.name)
		}
	}
	if len(s.Approval.For) > 0 && s.Approval.Expires <= 0 {
		refuse("phases.approval.expires: must be above 0, such as 1d")
	}
	for i, p := range s.Approval.For {
		if _, err := ParsePhase(string(p)); err != nil {
			refuse("phases.approval.for[%d]: %w", i, err)
		}
	}
	for i, p := range s.Approval.TwoPeople {
		if _, err := ParsePhase(string(p)); err != nil {
			refuse("phases.approval.two_people[%d]: %w", i, err)
		}
	}
	return errors.Join(wrong...)
}

// Next returns the route that an advance leads to. Grace is followed by retain,
// by way of the fence. It returns an error where no advance leads on.
func (s Schedule) Next(at Route) (Route, error) {
	step := func(p Phase, steps []Percent) Route { return Route{Phase: p, Percent: steps[0]} }
	switch at.Phase {
	case Legacy:
		return Route{Phase: ShadowWrite}, nil
	case ShadowWrite:
		return step(DualRead, s.DualRead.Steps), nil
	case DualRead:
		if p, ok := above(s.DualRead.Steps, at.Percent); ok {
			return Route{Phase: DualRead, Percent: p}, nil
		}
		return step(Cutover, s.Cutover.Steps), nil
	case Cutover:
		if p, ok := above(s.Cutover.Steps, at.Percent); ok {
			return Route{Phase: Cutover, Percent: p}, nil
		}
		return Route{Phase: Grace}, nil
	case Grace, Fenced:
		return Route{Phase: Retain}, nil
	case Retain:
		return Route{Phase: Complete}, nil
	case Complete:
		return Route{}, fmt.Errorf("the migration is complete: there is nothing to advance to")
	default:
		return Route{}, fmt.Errorf("the migration is %s: a rollback to grace is in progress", at.Phase)
	}
}

// ByItself reports whether the daemon takes the step: it stays on a ramp with auto set.
func (s Schedule) ByItself(from, to Route) bool {
	switch {
	case from.Phase != to.Phase:
		return false
	case from.Phase == DualRead:
		return s.DualRead.ByItself()
	default:
		return from.Phase == Cutover && s.Cutover.ByItself()
	}
}

// Soak is the shortest stay on a route.
func (s Schedule) Soak(at Route) time.Duration {
	switch at.Phase {
	case ShadowWrite:
		return time.Duration(s.ShadowWrite.For)
	case DualRead:
		return s.DualRead.PerStep()
	case Cutover:
		return s.Cutover.PerStep()
	case Grace:
		return time.Duration(s.Grace.For)
	case Retain:
		return time.Duration(s.Retain.For)
	default:
		return 0
	}
}

func above(steps []Percent, p Percent) (Percent, bool) {
	for _, s := range steps {
		if s > p {
			return s, true
		}
	}
	return 0, false
}
