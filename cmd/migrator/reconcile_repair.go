package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/stranglerfig/migrator/internal/app"
	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/humanize"
	"github.com/stranglerfig/migrator/internal/repair"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/reconcile"
)

// repairFlags are the flags of reconcile run that are about repair.
type repairFlags struct {
	how        string // "", apply or plan
	force      string
	yes        bool
	maxRepairs int
	rate       int
}

const (
	repairApply = "apply"
	repairPlan  = "plan"
)

func (m *repairFlags) flags(f *pflag.FlagSet) {
	f.StringVar(&m.how, "repair", "", "repair differences once all is compared; --repair=plan: print the repairs only (`how`: apply, or plan)")
	f.Lookup("repair").NoOptDefVal = repairApply
	f.IntVar(&m.maxRepairs, "max-repairs", 0, "repairs at most (default: the migration file's)")
	f.IntVar(&m.rate, "repair-rate", 0, "repairs per second at most (default: the migration file's)")
	f.StringVar(&m.force, "force", "", "repair however much differs; the `reason` is recorded with the run")
	f.BoolVarP(&m.yes, "yes", "y", false, "with --force: don't ask; needed without a terminal")
}

func (m *repairFlags) check(f *pflag.FlagSet) error {
	switch {
	case f.Changed("repair") && m.how != repairApply && m.how != repairPlan:
		return usagef("--repair=%s: want --repair (or --repair=apply), or --repair=plan to print the repairs only", m.how)
	case m.how == "" && slices.ContainsFunc([]string{"max-repairs", "repair-rate", "force"}, f.Changed):
		return usageTry(hint.Hint{Do: hint.ReconcileFullRepair}, "--max-repairs, --repair-rate and --force need --repair")
	case f.Changed("force") && strings.TrimSpace(m.force) == "":
		return usagef("--force needs a reason: why legacy is right about so many records")
	}
	return inRange(numbered{"max-repairs", m.maxRepairs, 0, migration.MaxRepairs}, inRate("repair-rate", m.rate))
}

// confirm asks before a repair without a limit.
func (m *repairFlags) confirm(ctx context.Context, c *cli) error {
	if m.force == "" || m.how != repairApply {
		return nil
	}
	return c.confirm(ctx, m.yes, "Make the target like legacy, however much differs? What legacy lacks is removed from the target.")
}

// apply copies the flags to the job and the run's options. The plan is nil unless
// --repair=plan is given.
func (m *repairFlags) apply(f *pflag.FlagSet, j *app.Job, o *reconcile.RunOptions) *plannedRepairs {
	if f.Changed("max-repairs") {
		j.Config.Reconcile.MaxRepairs = m.maxRepairs
	}
	if f.Changed("repair-rate") {
		j.Config.Reconcile.RepairRate = m.rate
	}
	o.Force = m.force
	switch m.how {
	case repairApply:
		o.Repair = true
	case repairPlan:
		p := &plannedRepairs{}
		o.Plan = func(r reconcile.Planned) { p.repairs = append(p.repairs, r) }
		return p
	}
	return nil
}

// plannedRepairs collects a plan.
type plannedRepairs struct {
	repairs []reconcile.Planned
}

func (p *plannedRepairs) list() []reconcile.Planned {
	if p == nil {
		return nil
	}
	return p.repairs
}

var stepMeanings = map[repair.Step]string{
	repair.StepWrite:     "write legacy's state",
	repair.StepLower:     "write legacy's state over a version that legacy never assigned",
	repair.StepTombstone: "remove the record, leave a tombstone",
	repair.StepNone:      "nothing",
	repair.StepLeave:     "nothing: the entry belongs to a later era",
	repair.StepEqual:     "nothing: legacy has the record under an equal key",
	repair.StepForeign:   "nothing: another program wrote the value, and legacy has no such record",
}

func (p *plannedRepairs) write(c *cli) {
	if p == nil {
		return
	}
	if len(p.repairs) == 0 {
		c.printf("\nPlan: nothing would be repaired.\n")
		return
	}
	steps := map[repair.Step]int{}
	c.printf("\nPlan, by the present state of both stores:\n")
	for _, r := range p.repairs {
		steps[r.Step]++
		what, class := stepMeanings[r.Step], string(r.Class)
		if class == "" {
			class = "journal"
		}
		if r.Journal {
			what += ", clear the journal"
		}
		over := string(r.Target)
		if !r.From.IsZero() {
			over += " at " + r.From.String()
		}
		c.printf("%-8s %s  %s (now %s)\n", class, strconv.Quote(string(r.Key)), what, over)
	}
	var sums []string
	for _, s := range []repair.Step{repair.StepWrite, repair.StepLower, repair.StepTombstone, repair.StepNone, repair.StepLeave, repair.StepEqual, repair.StepForeign} {
		if steps[s] > 0 {
			sums = append(sums, fmt.Sprintf("%s: %s", stepMeanings[s], humanize.Count(steps[s])))
		}
	}
	c.printf("In all: %s\n", strings.Join(sums, "; "))
}
