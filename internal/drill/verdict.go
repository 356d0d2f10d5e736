package drill

import (
	"fmt"
	"slices"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/phases"
)

// Doubts lists why the contents of a report do not show a drill that passed, whatever its flag says. Empty:
// they do. What is signed is no more than stated: the signer may be mistaken, or lie.
func (r Report) Doubts() (why []string) {
	doubt := func(doubts bool, format string, args ...any) {
		if doubts {
			why = append(why, fmt.Sprintf(format, args...))
		}
	}
	doubt(!r.Passed, "it says itself that it failed")
	for _, reason := range r.Reasons {
		doubt(true, "it names a reason why it failed: %s", reason)
	}
	doubt(r.Environment != "staging", "it was made in the environment %q: drills are made in staging", r.Environment)
	doubt(r.Began.IsZero() || !r.Finished.After(r.Began), "it finished at %s, and began at %s", r.Finished, r.Began)
	within := func(what string, at interface{ IsZero() bool }, ok bool) {
		doubt(at.IsZero() || !ok, "%s is not within the drill's time", what)
	}
	f := r.Fault
	within("the injection of the fault", f.Injected, !f.Injected.Before(r.Began) && !f.Injected.After(r.Finished))
	within("the end of the fault", f.Lifted, !f.Lifted.Before(f.Injected) && !f.Lifted.After(r.Finished))
	doubt(!slices.Contains(dual.FaultKinds, f.Kind), "the fault %q is of no kind that there is", f.Kind)
	doubt(f.Executed <= 0, "the fault was injected into no operation")
	met, _, _ := r.application()
	doubt(len(met) == 0, "no application met the fault: %s", r.applicationText())
	doubt(len(r.Steps) == 0, "it has no steps")
	for _, s := range r.Steps {
		doubt(!s.OK, "its step %q failed", s.Name)
		doubt(s.Took < 0 || s.Began.Before(r.Began) || s.Began.After(r.Finished), "its step %q is not within the drill's time", s.Name)
	}
	doubt(r.Healthy == nil, "there was no time without a fault")
	doubt(r.Fired == nil || r.Fired.Cause != phases.CauseTrigger && r.Fired.Cause != phases.CauseFailure, "nothing rolled back by itself")
	t := r.Times
	doubt(t == nil || min(t.Detect, t.Decide, t.Commit, t.Settle, t.Total) < 0 || t.Total > r.Finished.Sub(r.Began).Seconds(), "how long the rollback took is not there, or can't be")
	doubt(r.Load == nil || r.Load.Writes <= 0, "no write was acknowledged")
	switch l := r.Ledger; {
	case l == nil:
		doubt(true, "no ledger was checked")
	case !l.OK():
		doubt(true, "%s", l.wrong())
	}
	c := r.Controls
	doubt(c == nil || !c.QuietWithoutFault || !c.NegativeControlFound || c.PlantedFound <= 0 || c.PlantedFound+c.PlantedRewritten < len(c.Planted), "its controls do not show that the checks can fail")
	last := len(r.Reconciles) - 1
	doubt(last < 0 || r.Reconciles[last].When != "after" || r.Reconciles[last].Differences > 0, "no reconcile after the drill found the stores equal")
	return why
}
