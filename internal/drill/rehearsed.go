package drill

import (
	"fmt"
	"slices"
	"strings"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/internal/humanize"
)

// loadAbout is what the drill's own load says of itself in the fleet.
const loadAbout = "the load of migrator drill"

// application returns the application's instances that met the fault, those that had it and no operation met it,
// and those that did not take it up. The drill's own load is no application.
func (r *Report) application() (met, idle, without []FaultTarget) {
	for _, p := range r.FaultTargets {
		switch {
		case p.About == loadAbout:
		case p.Executed > 0:
			met = append(met, p)
		case p.Armed:
			idle = append(idle, p)
		default:
			without = append(without, p)
		}
	}
	return met, idle, without
}

// applicationText says which instances of the application met the fault, and why the others did not.
func (r *Report) applicationText() string {
	met, idle, without := r.application()
	var parts []string
	if len(met) > 0 {
		names := make([]string, len(met))
		for i, p := range met {
			names[i] = fmt.Sprintf("%s (%s)", p.Instance, humanize.Counted(int(p.Executed), "operation"))
		}
		parts = append(parts, fmt.Sprintf("%s of %d met the fault: %s", humanize.Counted(len(met), "instance"), len(met)+len(idle)+len(without), strings.Join(names, ", ")))
	}
	for _, others := range []struct {
		list []FaultTarget
		why  string
	}{{idle, "had no operation that it applies to"}, {without, "did not take the fault up"}} {
		if len(others.list) > 0 {
			names := make([]string, len(others.list))
			for i, p := range others.list {
				names[i] = p.Instance
			}
			parts = append(parts, strings.Join(names, ", ")+" "+others.why)
		}
	}
	if parts == nil {
		return "no instance of the application was live"
	}
	return strings.Join(parts, "; ")
}

// notRehearsed lists what the drill does not show.
func (r *Report) notRehearsed() (list []string) {
	add := func(holds bool, format string, args ...any) {
		if holds {
			list = append(list, fmt.Sprintf(format, args...))
		}
	}
	_, idle, without := r.application()
	for _, p := range slices.Concat(idle, without) {
		add(true, "%s under the fault", p.Instance)
	}
	add(r.Daemon == nil, "the death of the daemon")
	f := r.Fault
	add(!f.Reads, "reads that the target fails")
	add(!f.Writes, "writes that the target fails")
	var others []string
	for _, kind := range dual.FaultKinds {
		if kind != f.Kind {
			others = append(others, string(kind))
		}
	}
	add(true, "other faults (%s)", strings.Join(others, ", "))
	if l := r.Ledger; l != nil {
		add(l.Stale == nil, "whether records are stale (nothing distinguishes their states)")
		add(l.StaleReads == nil, "whether reads were stale (not watched)")
	}
	add(true, "faults of legacy, of the state database and of the network; production's size and load")
	return list
}

// sentence is the result for a reader who was not there.
func (r *Report) sentence() string {
	if !r.Passed {
		return "The rollback is not shown to work: see why below."
	}
	what := "The target failed"
	if r.Fired != nil && r.Fired.Trigger != "" {
		what += ", and the trigger " + r.Fired.Trigger + " noticed"
	}
	text := fmt.Sprintf("%s (%s in %s %% of %s)", what, r.Fault.Kind, r.Fault.Share, r.operations())
	if t := r.Times; t != nil {
		text += fmt.Sprintf("; %.1f s after the first operation met the fault, every instance read legacy again", t.Total)
	}
	if l := r.Ledger; l != nil {
		text += fmt.Sprintf(". No acknowledged write of %s was lost", humanize.Counted(int(l.Records), "record"))
	}
	return text + "."
}
