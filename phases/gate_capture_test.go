package phases

import (
	"strings"
	"testing"
	"time"
)

// capturing is a snapshot of a migration that is captured and opens every gate from the route to the next one.
func capturing(at Route) Snapshot {
	e := ready(at)
	e.Capture = &Capture{
		Slot: "migrator_products_1", Running: true, Reported: noon.Add(-time.Second), Position: "0/1", Era: 3, Barrier: "3", Lag: Duration(time.Second), LagBytes: 5 << 20,
	}
	return e
}

func gateNamed(gates []GateResult, name string) GateResult {
	for _, g := range gates {
		if g.Gate == name {
			return g
		}
	}
	return GateResult{Detail: "there is no such gate"}
}

// TestGatesOfCapture: where changes are captured, capture must run, have passed a barrier, have copied what it lost
// and not lag.
func TestGatesOfCapture(t *testing.T) {
	t.Parallel()
	s := DefaultSettings()
	s.Capture = CaptureOnly
	s = s.Captured()
	retain, grace := Route{Phase: Retain}, Route{Phase: Grace}
	for _, c := range []struct {
		what   string
		change func(*Snapshot)
		gate   string
		want   Verdict
		says   string
	}{
		{"all is well", func(*Snapshot) {}, GateCapture, Pass, "before 0/1"},
		{"all is well", func(*Snapshot) {}, GateCaptureLag, Pass, "1s and 5.0 MiB behind legacy, at most 10s and 64MiB"},
		{"it has never run", func(e *Snapshot) { e.Capture = nil }, GateCapture, NoData, "no replication slot"},
		{"it has never run", func(e *Snapshot) { e.Capture = nil }, GateCaptureLag, NoData, "not known"},
		{"it has ended", func(e *Snapshot) { e.Capture.Running, e.Capture.Error = false, "no route" }, GateCapture, Fail, "no route"},
		{"it is silent", func(e *Snapshot) { e.Capture.Reported = noon.Add(-time.Minute) }, GateCapture, Fail, "last reported"},
		{"it is silent", func(e *Snapshot) { e.Capture.Reported = noon.Add(-time.Minute) }, GateCaptureLag, NoData, "not known"},
		{"changes are lost", func(e *Snapshot) { e.Capture.Lost = "the slot is gone" }, GateCapture, Fail, "the slot is gone"},
		{"no barrier", func(e *Snapshot) { e.Capture.Era = 0 }, GateCapture, Inconclusive, "no barrier"},
		{"lost since the backfill", func(e *Snapshot) { e.Capture.LostAt = noon.Add(-time.Hour) }, GateCapture, Inconclusive, "no backfill has begun since"},
		{"lost since the backfill", func(e *Snapshot) { e.Capture.LostAt = noon.Add(-time.Hour) }, "backfill-done", NoData, "were lost to capture"},
		{"lost before the backfill", func(e *Snapshot) { e.Capture.LostAt = noon.Add(-72 * time.Hour) }, GateCapture, Pass, ""},
		{"being copied again", func(e *Snapshot) {
			e.Capture.LostAt, e.Backfill.Finished = noon.Add(-72*time.Hour), time.Time{}
		}, GateCapture, Inconclusive, "is not finished"},
		{"behind a fence", func(e *Snapshot) { e.Capture.Fence = "a" }, GateCapture, Inconclusive, "the fence was lifted"},
		{"a sweep is due", func(e *Snapshot) { e.Capture.Sweeps = 1 }, GateCapture, Inconclusive, "TRUNCATE"},
		{"it is late", func(e *Snapshot) { e.Capture.Lag = Duration(11 * time.Second) }, GateCaptureLag, Fail, "11s"},
		{"it has much to bring", func(e *Snapshot) { e.Capture.LagBytes = 65 << 20 }, GateCaptureLag, Fail, "65.0 MiB"},
		{"a writer bypasses", func(e *Snapshot) { e.Bypass.Least, e.Bypass.Most, e.Bypass.Last = 30, 40, noon }, GateBypass, Pass, "30 to 40 changes"},
		{"no instance writes", func(*Snapshot) {}, GateShadowWrites, Off, "capture-lag"},
	} {
		e := capturing(grace)
		c.change(&e)
		g := gateNamed(Gates(retain, s, e), c.gate)
		if g.Verdict != c.want || !strings.Contains(g.Detail, c.says) {
			t.Errorf("%s: %s is %s (%s), want %s and %q", c.what, c.gate, g.Verdict, g.Detail, c.want, c.says)
		}
		if g.Gate == GateCapture && !g.Interlock {
			t.Error("it can be overridden")
		}
	}
	s.Capture = CaptureOff
	if g := gateNamed(Gates(retain, s, capturing(grace)), GateCapture); g.Gate != "" {
		t.Errorf("without capture: %+v", g)
	}
}

// TestCapturePassed: all that legacy committed before the fence is in the target.
func TestCapturePassed(t *testing.T) {
	t.Parallel()
	s := Settings{Capture: CaptureBeside}
	for says, change := range map[string]func(*Snapshot){
		"":                      func(*Snapshot) {},
		"no replication slot":   func(e *Snapshot) { e.Capture = nil },
		"gone":                  func(e *Snapshot) { e.Capture.Lost = "gone" },
		"not passed the fence":  func(e *Snapshot) { e.Capture.Fence = "another" },
		"due once more":         func(e *Snapshot) { e.Capture.Sweeps = 1 },
		"a table was truncated": func(e *Snapshot) { e.Status.Dirty, e.Status.Unclean = noon, "a table was truncated" },
	} {
		e := capturing(Route{Phase: Fenced})
		e.Capture.Fence = "a"
		change(&e)
		err := CapturePassed(s, e, "a")
		if (err == nil) != (says == "") || err != nil && !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v", says, err)
		}
	}
	if err := CapturePassed(Settings{}, Snapshot{}, "a"); err != nil {
		t.Errorf("without capture: %v", err)
	}
}

// TestReentry: what comes after changes were lost.
func TestReentry(t *testing.T) {
	t.Parallel()
	dualRead, cutover, grace := Route{Phase: DualRead, Percent: All}, Route{Phase: Cutover, Percent: All}, Route{Phase: Grace}
	lost := noon.Add(-time.Hour)
	covered := func(e *Snapshot) {
		e.Backfill.Began, e.Backfill.Finished, e.Status.Dirty = lost.Add(time.Minute), lost.Add(2*time.Minute), lost.Add(time.Second)
	}
	for what, c := range map[string]struct {
		at     Route
		mode   CaptureMode
		change func(*Snapshot)
		want   Reentered
	}{
		"nothing was lost":             {cutover, CaptureOnly, func(e *Snapshot) { e.Capture.LostAt = time.Time{} }, NotReentering},
		"reads come from the target":   {cutover, CaptureOnly, func(*Snapshot) {}, ReenterReads},
		"in grace":                     {grace, CaptureOnly, func(*Snapshot) {}, ReenterReads},
		"writers follow":               {grace, CaptureBeside, func(*Snapshot) {}, ReenterBackfill},
		"a fence may stand":            {grace, CaptureBeside, func(e *Snapshot) { e.Status.Attempt = "a" }, NotReentering},
		"reads come from legacy":       {dualRead, CaptureOnly, func(*Snapshot) {}, ReenterBackfill},
		"no slot yet":                  {dualRead, CaptureOnly, func(e *Snapshot) { e.Capture.Slot = "" }, NotReentering},
		"not begun again":              {dualRead, CaptureOnly, func(e *Snapshot) { e.Capture.Lost = "gone" }, NotReentering},
		"no backfill yet in this stay": {dualRead, CaptureOnly, func(e *Snapshot) { e.Backfill.Epoch = 1 }, NotReentering},
		"the state is lost":            {dualRead, CaptureOnly, func(e *Snapshot) { e.Status.StateLoss = &StateLoss{} }, NotReentering},
		"copied":                       {dualRead, CaptureOnly, func(e *Snapshot) { covered(e); e.FullReconcile = nil }, ReenterReconcile},
		"compared before":              {dualRead, CaptureOnly, func(e *Snapshot) { covered(e); e.FullReconcile.Began = lost.Add(-time.Minute) }, ReenterReconcile},
		"too early":                    {dualRead, CaptureOnly, func(e *Snapshot) { covered(e); e.FullReconcile = nil; e.Status.Dirty = noon.Add(time.Second) }, NotReentering},
		"repaired":                     {dualRead, CaptureOnly, func(e *Snapshot) { covered(e); e.FullReconcile.Began = noon; e.FullReconcile.Repaired = 3 }, ReenterReconcile},
		"not repaired":                 {dualRead, CaptureOnly, func(e *Snapshot) { covered(e); e.FullReconcile.Began = noon; e.FullReconcile.Differences = 3 }, NotReentering},
		"clean":                        {dualRead, CaptureOnly, func(e *Snapshot) { covered(e); e.FullReconcile.Began = noon }, NotReentering},
	} {
		e := capturing(c.at)
		e.Capture.LostAt = lost
		c.change(&e)
		if got := Reentry(Settings{Capture: c.mode}, e); got != c.want {
			t.Errorf("%s: %d, want %d", what, got, c.want)
		}
	}
}
