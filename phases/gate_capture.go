package phases

import (
	"cmp"
	"fmt"
	"time"

	"github.com/stranglerfig/migrator/internal/hint"
)

// The gates of change capture.
const (
	GateCapture    = "capture"
	GateCaptureLag = "capture-lag"
)

// CaptureGate bounds how far the target may be behind legacy where changes are captured.
type CaptureGate struct {
	Off   string   `yaml:"off,omitempty" json:"off,omitempty" jsonschema_description:"Why no bound is put on the lag; a reason turns it off"`
	Lag   Duration `yaml:"lag,omitempty" json:"lag,omitempty" jsonschema_description:"The greatest age that the newest commit in the target may have while there are later ones (default 10s)"`
	Bytes Size     `yaml:"bytes,omitempty" json:"bytes,omitempty" jsonschema_description:"How much of legacy's log may not be applied yet (default 64MiB)"`
}

// MostLag is Lag, or its default.
func (g CaptureGate) MostLag() time.Duration { return cmp.Or(time.Duration(g.Lag), 10*time.Second) }

// MostBytes is Bytes, or its default.
func (g CaptureGate) MostBytes() Size { return cmp.Or(g.Bytes, 64<<20) }

// LostSince reports whether changes were lost since a moment of the state's clock.
func (c *Capture) LostSince(t time.Time) bool {
	return c != nil && !c.LostAt.IsZero() && !t.After(c.LostAt)
}

// notPassed says why capture has not brought all that legacy committed before the attempt's fence; "": it has.
func (c *Capture) notPassed(attempt string) string {
	switch {
	case c == nil || c.Slot == "":
		return "there is no replication slot"
	case c.Lost != "":
		return "changes are lost: " + c.Lost
	case c.Fence != attempt:
		return "it has not passed the fence"
	case c.Sweeps > 0:
		return "a sweep after a TRUNCATE is due once more"
	}
	return ""
}

// CaptureError refuses a step for which change capture is not ready.
type CaptureError struct{ Why string }

func (e *CaptureError) Error() string { return "change capture is not ready: " + e.Why }

// Hint implements hint.Hinter.
func (e *CaptureError) Hint() hint.Hint { return hint.Hint{Do: hint.Status} }

// CapturePassed returns nil if the target has all that legacy committed before the attempt's fence, as far as
// capture brings it; *CaptureError else.
func CapturePassed(s Settings, e Snapshot, attempt string) error {
	if !s.Capture.On() {
		return nil
	}
	if why := e.Capture.notPassed(attempt); why != "" {
		return &CaptureError{why}
	}
	// [unclean-mark]: what was captured since the gates were evaluated may have marked the migration.
	if g := gateDirty(Route{Phase: Retain}, e); !g.Open() {
		return &CaptureError{g.Detail}
	}
	return nil
}

// CaptureReturns returns nil if what legacy takes once its fence is lifted will be captured. The slot must be
// there before that.
func CaptureReturns(s Settings, e Snapshot) error {
	switch c := e.Capture; {
	case !s.Capture.On():
		return nil
	case c == nil || c.Slot == "":
		return &CaptureError{"there is no replication slot: what legacy takes after the fence would not be captured"}
	case c.Lost != "":
		return &CaptureError{"changes are lost, and it has not begun again: " + c.Lost}
	}
	return nil
}

// gateCapture is an interlock: the target has what capture alone brings only if capture runs.
func gateCapture(to Route, e Snapshot) GateResult {
	g := GateResult{Gate: GateCapture, Interlock: true, Verdict: NoData, Hint: hint.Hint{Do: hint.Serve, Text: "which captures"}}
	switch c := e.Capture; {
	// [capture-gated]: whatever was compared before.
	case c != nil && c.Lost != "":
		g.Verdict, g.Detail = Fail, "changes of legacy are lost: "+c.Lost+". It begins again, behind a new barrier"
		g.Hint = hint.Hint{Do: hint.Status}
	case c == nil || c.Slot == "":
		g.Detail = "changes of legacy are not captured yet: there is no replication slot"
	case !c.Runs(e.Now):
		g.Verdict, g.Detail = Fail, "changes of legacy are not captured now"
		if !c.Reported.IsZero() {
			g.Detail += "; capture last reported " + when(c.Reported)
		}
		if c.Error != "" {
			g.Detail += ": " + c.Error
		}
	// [capture-reentry]: also along a ramp.
	case c.LostSince(began(e.Backfill)):
		g.Verdict, g.Detail = Inconclusive, "changes of legacy were lost "+when(c.LostAt)+", and no backfill has begun since"
		g.Hint = hint.Hint{Do: hint.BackfillRun}
	case !c.LostAt.IsZero() && e.Backfill != nil && e.Backfill.Finished.IsZero():
		g.Verdict, g.Detail = Inconclusive, "changes of legacy were lost "+when(c.LostAt)+", and the backfill that copies them is not finished"
		g.Hint = hint.Hint{Do: hint.BackfillRun, Text: "to see how far it is, or to resume it"}
	case c.Era == 0:
		g.Verdict, g.Detail = Inconclusive, "it has passed no barrier yet, and brings no changes"
		g.Hint = hint.Hint{Do: hint.BackfillRun}
	case c.Fence != "" && !e.Status.Route.Phase.Fenced():
		g.Verdict, g.Detail = Inconclusive, "it has not passed yet where the fence was lifted"
		g.Hint = hint.Hint{Do: hint.Status}
	case c.Sweeps > 0 && to.Phase == Retain:
		g.Verdict, g.Detail = Inconclusive, "a sweep after a TRUNCATE is due once more"
		g.Hint = hint.Hint{Do: hint.Status}
	default:
		g.Verdict, g.Hint = Pass, hint.Hint{}
		g.Detail = "the target has what legacy's log has before " + c.Position
	}
	return g
}

func began(b *BackfillStatus) time.Time {
	if b == nil {
		return time.Time{}
	}
	return b.Began
}

// gateCaptureLag bounds how late reads of the target are where capture alone writes it.
func gateCaptureLag(s GateSettings, e Snapshot) GateResult {
	g := GateResult{Gate: GateCaptureLag, Verdict: NoData, Hint: hint.Hint{Do: hint.Status}}
	if off := cmp.Or(s.Capture.Off, s.Off); off != "" {
		g.Verdict, g.Detail, g.Hint = Off, "off: "+off, hint.Hint{}
		return g
	}
	c := e.Capture
	if !c.Runs(e.Now) {
		g.Detail = "not known: capture does not run"
		return g
	}
	most, bytes := s.Capture.MostLag(), s.Capture.MostBytes()
	g.Detail = fmt.Sprintf("%s and %s behind legacy, at most %s and %s", Duration(time.Duration(c.Lag).Round(time.Millisecond)), inMiB(c.LagBytes), Duration(most), bytes)
	switch {
	// [capture-gated]: a read of the target is as late as this.
	case time.Duration(c.Lag) > most || c.LagBytes > int64(bytes):
		g.Verdict = Fail
	default:
		g.Verdict, g.Hint = Pass, hint.Hint{}
	}
	return g
}

func inMiB(bytes int64) string { return fmt.Sprintf("%.1f MiB", float64(bytes)/(1<<20)) }

// onlyCapture is why what instances write is not measured.
const onlyCapture = "capture.mode is only: no instance writes the target, and capture-lag is judged in its place"

// Captured returns the settings in which gates that only instances' writes could open are off where capture is
// the only writer.
func (s Settings) Captured() Settings {
	if s.Capture != CaptureOnly {
		return s
	}
	for _, off := range []*string{&s.Gates.ShadowWrites.Off, &s.Gates.AddedLatency.Off} {
		if *off == "" {
			*off = onlyCapture
		}
	}
	return s
}

// Reentered is the next step after changes were lost to capture.
type Reentered int

// The steps, in their order.
const (
	NotReentering    Reentered = iota
	ReenterReads               // return reads to legacy
	ReenterBackfill            // copy legacy again, behind another barrier
	ReenterReconcile           // compare all records, and repair
)

// Reentry is what is to be done now after changes were lost to capture. Nothing is where an operator has not begun
// a backfill in this stay beyond legacy: there is nothing to go back to.
func Reentry(s Settings, e Snapshot) Reentered {
	c, b, at := e.Capture, e.Backfill, e.Status.Route.Phase
	if !s.Capture.On() || c == nil || c.LostAt.IsZero() || e.Status.StateLoss != nil || !at.Compared() || e.Status.Attempt != "" ||
		b == nil || b.Epoch < e.Status.FilledFrom() {
		return NotReentering
	}
	covered := !c.LostSince(b.Began) && !b.Finished.IsZero()
	full := e.FullReconcile
	switch {
	case !covered && s.Capture == CaptureOnly && at.TriggersAct():
		// [capture-reentry]: also of a fence that was lifted since.
		return ReenterReads
	case c.Lost != "" || c.Slot == "":
		return NotReentering // until there is another slot
	case !covered:
		return ReenterBackfill
	case e.Now.Before(e.Status.Dirty) || full != nil && full.Began.After(c.LostAt) && full.ConfigHash == e.Status.ConfigHash && full.Repaired == 0:
		return NotReentering // a run that counts is too early, or has ended: what it could not repair a person must see
	}
	return ReenterReconcile
}
