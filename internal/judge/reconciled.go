package judge

import (
	"fmt"
	"time"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/phases"
)

// reconciled stands in for a gate that counts operations of instances where there are none: capture is the only
// writer, and the application knows nothing of the migration. What a reconcile has compared is what there is to
// judge by.
type reconciled struct {
	Run     int64     `json:"run,omitempty"` // the newest full, two-way one; 0: there is none
	Began   time.Time `json:"began,omitzero"`
	Since   time.Time `json:"since"`   // when the phase was entered
	Within  float64   `json:"within"`  // seconds, the greatest age
	Checked int64     `json:"checked"` //
	Counts  bool      `json:"counts"`  // it is clean, of this configuration
}

// reconciledOf is nil where instances are there, or may be: their operations are counted then.
func reconciledOf(s phases.Settings, e phases.Snapshot) *reconciled {
	if s.Capture != phases.CaptureOnly || e.Fleet.Live > 0 || len(e.Fleet.Lapsed) > 0 {
		return nil
	}
	c := &reconciled{Since: e.Status.PhaseSince, Within: phases.ReconcileWithin.Seconds()}
	if r := e.FullReconcile; r != nil && r.Full && r.TwoWay {
		c.Run, c.Began, c.Checked = r.Run, r.Began, r.Checked
		c.Counts = r.Clean() && r.ConfigHash == e.Status.ConfigHash && e.Now.Sub(r.Began) <= phases.ReconcileWithin
	}
	return c
}

func (c *reconciled) evaluate() result {
	f := result{Verdict: phases.NoData, Samples: c.Checked, Hint: hint.Hint{Do: hint.ReconcileFull}}
	const none = "no instance reads or writes, so a full reconcile is judged in their place: "
	switch {
	case c.Run == 0:
		f.Detail = none + "no full, two-way one has finished"
	case !c.Began.After(c.Since):
		f.Detail = none + fmt.Sprintf("the last one (run %d) began before this phase", c.Run)
	case !c.Counts:
		f.Detail = none + fmt.Sprintf("the last one (run %d) was not clean, is of another configuration, or began more than %s ago", c.Run, short(seconds(c.Within)))
	default:
		f.Verdict, f.Hint = phases.Pass, hint.Hint{}
		f.Detail = none + fmt.Sprintf("run %d checked %d records in this phase and found no difference", c.Run, c.Checked)
	}
	return f
}
