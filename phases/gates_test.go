package phases

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/internal/hint"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// ready is a snapshot that opens every gate from the route to the next one.
func ready(at Route) Snapshot {
	at.Epoch = 7
	run := func() *ReconcileResult {
		return &ReconcileResult{
			Run: 3, Epoch: 7, ConfigHash: "c1", Began: noon.Add(-2 * time.Hour), Finished: noon.Add(-time.Hour),
			Full: true, TwoWay: true, Checked: 812331,
		}
	}
	e := Snapshot{
		Now: noon,
		Status: Status{
			Migration: "products", Route: at, PhaseSince: noon.Add(-400 * 24 * time.Hour), RouteSince: noon.Add(-400 * 24 * time.Hour),
			ConfigHash: "c1", LegacyEpoch: 1,
		},
		Fleet:     Fleet{Live: 2, LiveRoutes: []Route{at}},
		Backfill:  &BackfillStatus{Epoch: 2, Began: noon.Add(-48 * time.Hour), Finished: noon.Add(-47 * time.Hour)},
		Reconcile: run(), FullReconcile: run(),
		Bypass: &Bypass{Began: noon.Add(-48 * time.Hour), Looked: noon.Add(-5 * time.Second), Judged: Duration(47 * time.Hour)},
	}
	for _, name := range []string{GateConsistency, GateShadowWrites, GateTargetReads, GateAddedLatency} {
		e.Evaluations = append(e.Evaluations, Evaluation{
			Kind: GateKind, Name: name, At: noon.Add(-time.Minute), Epoch: 7, ConfigHash: "c1", Verdict: Pass, Detail: "below the limit", Hint: hint.Hint{Text: "more"},
		})
	}
	for _, p := range Order {
		e.Approvals = append(e.Approvals, Approval{Actor: "ann", To: p, Epoch: 7, ConfigHash: "c1", Expires: noon.Add(time.Hour)})
	}
	return e
}

// TestGatesOfEachStep lists by hand the gates of each step; * marks an interlock.
func TestGatesOfEachStep(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		from, to Route
		want     string
	}{
		{Route{Phase: Legacy}, Route{Phase: ShadowWrite}, "*state-whole *fleet-settled *routes-compatible *fleet-described *columns-applied *rollback-acknowledged not-paused soak-time"},
		{Route{Phase: ShadowWrite}, Route{Phase: DualRead, Percent: 100}, "*state-whole *fleet-settled *routes-compatible *fleet-described *columns-applied backfill-done journal-empty *rollback-acknowledged not-paused soak-time bypass"},
		{Route{Phase: DualRead, Percent: 100}, Route{Phase: DualRead, Percent: 500}, "*state-whole *fleet-settled *routes-compatible *fleet-described *columns-applied journal-empty *rollback-acknowledged not-paused soak-time"},
		{Route{Phase: DualRead, Percent: All}, Route{Phase: Cutover, Percent: 100}, "*state-whole *fleet-settled *routes-compatible *fleet-described *columns-applied *backfill-done *journal-empty *no-lost-queue *rollback-acknowledged not-paused soak-time reconcile-clean bypass MEASURED approved"},
		{Route{Phase: Cutover, Percent: 100}, Route{Phase: Cutover, Percent: 500}, "*state-whole *fleet-settled *routes-compatible *fleet-described *columns-applied *journal-empty *no-lost-queue *rollback-acknowledged not-paused soak-time MEASURED"},
		{Route{Phase: Cutover, Percent: All}, Route{Phase: Grace}, "*state-whole *fleet-settled *routes-compatible *fleet-described *columns-applied *backfill-done *journal-empty *no-lost-queue *rollback-acknowledged not-paused soak-time reconcile-clean bypass MEASURED"},
		{Route{Phase: Grace}, Route{Phase: Retain}, "*state-whole *fleet-settled *routes-compatible *fleet-described *columns-applied *backfill-done *journal-empty *no-lost-queue *rollback-acknowledged not-paused soak-time reconcile-clean bypass MEASURED approved"},
		{Route{Phase: Retain}, Route{Phase: Complete}, "*state-whole *fleet-settled *routes-compatible *fleet-described *columns-applied *backfill-done *journal-empty *no-lost-queue *rollback-acknowledged not-paused soak-time *approved"},
	} {
		gates := Gates(c.to, DefaultSettings(), ready(c.from))
		var names []string
		for _, g := range gates {
			name := g.Gate
			if g.Interlock {
				name = "*" + name
			}
			names = append(names, name)
			if g.Detail == "" || g.Verdict == Pass && !g.Hint.IsZero() {
				t.Errorf("to %s, %s: detail %q, hint %q", c.to, g.Gate, g.Detail, g.Hint)
			}
		}
		measured := "consistency shadow-writes target-reads"
		if c.from.Phase == DualRead {
			measured = "consistency shadow-writes added-latency"
		}
		c.want = strings.Replace(c.want, "MEASURED", measured, 1)
		if got := strings.Join(names, " "); got != c.want {
			t.Errorf("from %s to %s:\n got %s\nwant %s", c.from, c.to, got, c.want)
		}
		if closed := Closed(gates); len(closed) > 0 {
			t.Errorf("from %s to %s with everything in place: closed %+v", c.from, c.to, closed)
		}
		if closed := Closed(Gates(c.to, DefaultSettings(), Snapshot{Now: noon, Status: Status{Route: c.from, RouteSince: noon, Paused: "x"}})); len(closed) == 0 {
			t.Errorf("from %s to %s with an empty snapshot: all open", c.from, c.to)
		}
	}
}

func TestGateVerdicts(t *testing.T) {
	t.Parallel()
	toCutover := Route{Phase: Cutover, Percent: 100}
	dualRead, grace := Route{Phase: DualRead, Percent: All}, Route{Phase: Grace}
	unclean := func(run int64, began time.Duration, n int64) *ReconcileResult {
		return &ReconcileResult{Run: run, Epoch: 7, ConfigHash: "c1", Began: noon.Add(began), Finished: noon.Add(began + time.Minute), Differences: n}
	}
	for _, c := range []struct {
		name   string
		from   Route
		to     Route
		change func(*Snapshot)
		gate   string
		want   Verdict
		detail string
	}{
		{"a lapsed lease", dualRead, toCutover, func(e *Snapshot) { e.Fleet.Lapsed = []string{"web-3", "web-4"} }, "fleet-settled", Fail, "2 leases expired without leaving (web-3)"},
		{"one behind", dualRead, toCutover, func(e *Snapshot) { e.Fleet.Behind = 1 }, "fleet-settled", Inconclusive, "1 of 2 instances has not acknowledged epoch 7"},
		{"no instances", dualRead, toCutover, func(e *Snapshot) { e.Fleet = Fleet{} }, "fleet-settled", Pass, "0 instances"},
		{"an older live route", dualRead, toCutover, func(e *Snapshot) {
			e.Fleet.LiveRoutes = append(e.Fleet.LiveRoutes, Route{Phase: ShadowWrite, Epoch: 6})
		}, "routes-compatible", Fail, "shadow-write (epoch 6)"},
		{"two phases at once", Route{Phase: ShadowWrite}, toCutover, nil, "routes-compatible", Fail, "no move leads from shadow-write to cutover"},
		{"to retain it is the fence that must be compatible", grace, Route{Phase: Retain}, func(e *Snapshot) {
			e.Fleet.LiveRoutes = append(e.Fleet.LiveRoutes, Route{Phase: Cutover, Percent: All, Epoch: 6})
		}, "routes-compatible", Fail, "must not run beside fenced"},
		{"from fenced on", Route{Phase: Fenced}, Route{Phase: Retain}, nil, "routes-compatible", Pass, ""},

		{"no backfill", dualRead, toCutover, func(e *Snapshot) { e.Backfill = nil }, "backfill-done", NoData, ""},
		{"a backfill of before legacy", dualRead, toCutover, func(e *Snapshot) { e.Backfill.Epoch, e.Status.LegacyEpoch = 4, 5 }, "backfill-done", NoData, ""},
		{"a backfill begun in legacy", dualRead, toCutover, func(e *Snapshot) { e.Backfill.Epoch, e.Status.LegacyEpoch = 5, 5 }, "backfill-done", NoData, ""},
		{"an unfinished backfill", dualRead, toCutover, func(e *Snapshot) { e.Backfill.Finished = time.Time{} }, "backfill-done", Inconclusive, ""},
		{"a key behind", dualRead, toCutover, func(e *Snapshot) { e.Status.JournalKeys = 1 }, "journal-empty", Fail, "1 key is"},
		{"a key behind, in the ramp", Route{Phase: Cutover, Percent: 100}, Route{Phase: Cutover, Percent: 500}, func(e *Snapshot) { e.Status.JournalKeys = 1 }, "journal-empty", Fail, "1 key is"},

		{"an unclean exit", dualRead, toCutover, func(e *Snapshot) { e.Status.Dirty = noon.Add(-time.Minute) }, "no-lost-queue", NoData, "perhaps with writes queued"},
		{"an unclean exit during the run", dualRead, toCutover, func(e *Snapshot) { e.Status.Dirty = noon.Add(-90 * time.Minute) }, "no-lost-queue", NoData, ""},
		{"an unclean exit at the moment the run began", dualRead, toCutover, func(e *Snapshot) { e.Status.Dirty = noon.Add(-2 * time.Hour) }, "no-lost-queue", NoData, ""},
		{"an unclean exit before the run", dualRead, toCutover, func(e *Snapshot) { e.Status.Dirty = noon.Add(-3 * time.Hour) }, "no-lost-queue", Pass, "run 3"},
		{"a run after it that found something", dualRead, toCutover, func(e *Snapshot) { e.Status.Dirty, e.FullReconcile.Differences = noon.Add(-3*time.Hour), 1 }, "no-lost-queue", NoData, ""},
		{"a run after it under another configuration", dualRead, toCutover, func(e *Snapshot) { e.Status.Dirty, e.FullReconcile.ConfigHash = noon.Add(-3*time.Hour), "c0" }, "no-lost-queue", NoData, ""},
		{"a run after it in one direction", dualRead, toCutover, func(e *Snapshot) { e.Status.Dirty, e.FullReconcile.TwoWay = noon.Add(-3*time.Hour), false }, "no-lost-queue", NoData, ""},
		{"no run after it", dualRead, toCutover, func(e *Snapshot) { e.Status.Dirty, e.FullReconcile = noon.Add(-3*time.Hour), nil }, "no-lost-queue", NoData, ""},
		{"a run behind the fence after it", dualRead, toCutover, func(e *Snapshot) { e.Status.Dirty, e.Status.Unclean = noon.Add(-3*time.Hour), "lost" }, "no-lost-queue", NoData, "lost"},
		{"a target that lost writes of retain", Route{Phase: Retain}, Route{Phase: Complete}, func(e *Snapshot) { e.Status.Dirty, e.Status.Unclean = noon.Add(-3*time.Hour), "lost" }, "no-lost-queue", NoData, "no reconcile shows"},
		{"an unclean exit before retain", Route{Phase: Retain}, Route{Phase: Complete}, func(e *Snapshot) { e.Status.Dirty = noon.Add(-3 * time.Hour) }, "no-lost-queue", Pass, "run 3"},
		{"a sample after it", dualRead, toCutover, func(e *Snapshot) { e.Status.Dirty, e.Reconcile.Began = noon.Add(-90*time.Minute), noon }, "no-lost-queue", NoData, ""},

		{"paused", dualRead, toCutover, func(e *Snapshot) { e.Status.Paused = "Black Friday" }, "not-paused", Fail, "Black Friday"},
		{"too early", dualRead, toCutover, func(e *Snapshot) { e.Status.RouteSince = noon.Add(-55 * time.Hour) }, "soak-time", Inconclusive, "55h on dual-read 100 %, 56h needed"},
		{"just in time", dualRead, toCutover, func(e *Snapshot) { e.Status.RouteSince = noon.Add(-56 * time.Hour) }, "soak-time", Pass, ""},
		{"time on an earlier step does not count", Route{Phase: Cutover, Percent: 100}, Route{Phase: Cutover, Percent: 500}, func(e *Snapshot) { e.Status.RouteSince = noon }, "soak-time", Inconclusive, ""},
		{"legacy needs no stay", Route{Phase: Legacy}, Route{Phase: ShadowWrite}, func(e *Snapshot) { e.Status.RouteSince = noon }, "soak-time", Pass, ""},
		{"grace is long", grace, Route{Phase: Retain}, func(e *Snapshot) { e.Status.PhaseSince = noon.Add(-29 * 24 * time.Hour) }, "soak-time", Inconclusive, "30d needed"},
		{"another share of compared reads in grace", grace, Route{Phase: Retain}, func(e *Snapshot) { e.Status.RouteSince = noon }, "soak-time", Pass, ""},
		{"retain is longer", Route{Phase: Retain}, Route{Phase: Complete}, func(e *Snapshot) { e.Status.RouteSince = noon.Add(-89 * 24 * time.Hour) }, "soak-time", Inconclusive, "90d needed"},

		{"legacy's counters were never looked at", Route{Phase: ShadowWrite}, dualRead, func(e *Snapshot) { e.Bypass = nil }, "bypass", NoData, "have not been looked at"},
		{"long ago", dualRead, toCutover, func(e *Snapshot) { e.Bypass.Looked = noon.Add(-25 * time.Hour) }, "bypass", NoData, "last looked at 25h ago"},
		{"they can't be compared", dualRead, toCutover, func(e *Snapshot) { e.Bypass.Why = "track_counts is off" }, "bypass", NoData, "track_counts is off"},
		{"too little time", dualRead, toCutover, func(e *Snapshot) { e.Bypass.Judged = Duration(23 * time.Hour) }, "bypass", Inconclusive, "compared for 23h, 1d needed"},
		{"a bypass", Route{Phase: ShadowWrite}, dualRead, func(e *Snapshot) {
			e.Bypass.Least, e.Bypass.Most, e.Bypass.First, e.Bypass.Last = 20, 30, noon.Add(-25*time.Hour), noon.Add(-23*time.Hour)
			e.Bypass.Writers = []string{"psql (role ann)"}
		}, "bypass", Fail, "20 to 30 changes of legacy's table that no instance reported, since 2026-02-28T11:00:00Z; sessions that wrote it then: psql (role ann)"},
		{"a bypass that is over", Route{Phase: ShadowWrite}, dualRead, func(e *Snapshot) {
			e.Bypass.Least, e.Bypass.Most, e.Bypass.First, e.Bypass.Last = 20, 30, noon.Add(-25*time.Hour), noon.Add(-24*time.Hour)
		}, "bypass", Pass, ""},

		{"no reconcile", dualRead, toCutover, func(e *Snapshot) { e.Reconcile, e.FullReconcile = nil, nil }, "reconcile-clean", NoData, ""},
		{"only a sample", dualRead, toCutover, func(e *Snapshot) { e.FullReconcile = nil }, "reconcile-clean", NoData, ""},
		{"a full one in one direction", dualRead, toCutover, func(e *Snapshot) { e.FullReconcile.TwoWay = false }, "reconcile-clean", NoData, ""},
		{"of an earlier epoch", dualRead, toCutover, func(e *Snapshot) { e.FullReconcile.Epoch = 6 }, "reconcile-clean", NoData, "began in epoch 6; the route is of epoch 7"},
		{"under another configuration", dualRead, toCutover, func(e *Snapshot) { e.FullReconcile.ConfigHash = "c0" }, "reconcile-clean", NoData, "another configuration"},
		{"a week old", dualRead, toCutover, func(e *Snapshot) { e.FullReconcile.Began = noon.Add(-ReconcileWithin) }, "reconcile-clean", Pass, ""},
		{"more than a week old", dualRead, toCutover, func(e *Snapshot) { e.FullReconcile.Began = noon.Add(-ReconcileWithin - 1) }, "reconcile-clean", NoData, "more than 7d ago"},
		{"one that repaired the journal", dualRead, toCutover, func(e *Snapshot) { e.FullReconcile.Repaired = 5 }, "reconcile-clean", NoData, "repaired 5 keys"},
		{"the full run found something", dualRead, toCutover, func(e *Snapshot) {
			e.Reconcile.Differences, e.FullReconcile.Differences = 2, 2
		}, "reconcile-clean", Fail, "run 3 found 2 differences"},
		{"a clean sample after a full run that found something", dualRead, toCutover, func(e *Snapshot) {
			e.FullReconcile.Differences = 2
			e.Reconcile = unclean(4, -time.Minute, 0)
		}, "reconcile-clean", Fail, "run 3 found 2"},
		{"a sample after the full run found something", dualRead, toCutover, func(e *Snapshot) {
			e.Reconcile = unclean(4, -time.Minute, 1)
		}, "reconcile-clean", Fail, "run 4 found 1"},
		{"a sample found something, a later sample did not", dualRead, toCutover, func(e *Snapshot) {
			e.FailedReconcile, e.Reconcile = unclean(4, -30*time.Minute, 1), unclean(5, -time.Minute, 0)
		}, "reconcile-clean", Fail, "run 4 found 1"},
		{"a sample begun during the full run found something", dualRead, toCutover, func(e *Snapshot) {
			e.FailedReconcile = unclean(4, -90*time.Minute, 1)
		}, "reconcile-clean", Fail, "run 4 found 1"},
		{"what was found is cleared by a later full run", dualRead, toCutover, func(e *Snapshot) {
			e.FailedReconcile = unclean(2, -3*time.Hour, 9)
		}, "reconcile-clean", Pass, "run 3 checked 812331 records"},
		{"but not by one under another configuration", dualRead, toCutover, func(e *Snapshot) {
			e.FailedReconcile, e.FullReconcile.ConfigHash = unclean(2, -3*time.Hour, 9), "c0"
		}, "reconcile-clean", NoData, ""},

		{"never evaluated", dualRead, toCutover, func(e *Snapshot) { e.Evaluations = nil }, "consistency", NoData, "has not been evaluated"},
		{"evaluated in an earlier epoch", dualRead, toCutover, func(e *Snapshot) { e.Evaluations[0].Epoch = 6 }, "consistency", NoData, "of epoch 6"},
		{"evaluated under another configuration", dualRead, toCutover, func(e *Snapshot) { e.Evaluations[0].ConfigHash = "c0" }, "consistency", NoData, "under this configuration"},
		{"evaluated three minutes ago", dualRead, toCutover, func(e *Snapshot) { e.Evaluations[0].At = noon.Add(-3 * time.Minute) }, "consistency", Pass, "below the limit"},
		{"the daemon is dead", dualRead, toCutover, func(e *Snapshot) { e.Evaluations[0].At = noon.Add(-3*time.Minute - 1) }, "consistency", NoData, "last evaluated 3m ago: pass then"},
		{"a failed evaluation", dualRead, toCutover, func(e *Snapshot) { e.Evaluations[1].Verdict = Fail }, "shadow-writes", Fail, "below the limit"},
		{"an inconclusive evaluation", dualRead, toCutover, func(e *Snapshot) { e.Evaluations[3].Verdict = Inconclusive }, "added-latency", Inconclusive, ""},
		{"a newer evaluation counts", dualRead, toCutover, func(e *Snapshot) {
			newer := e.Evaluations[0]
			newer.At, newer.Verdict = noon, Fail
			e.Evaluations = append([]Evaluation{newer}, e.Evaluations...)
		}, "consistency", Fail, ""},
		{"a trigger of the same name is none", dualRead, toCutover, func(e *Snapshot) { e.Evaluations[0].Kind = TriggerKind }, "consistency", NoData, ""},
		{"too few reads of the target", grace, Route{Phase: Retain}, func(e *Snapshot) { e.Evaluations[2].Verdict = Inconclusive }, "target-reads", Inconclusive, ""},
		{"an automatic rollback without acknowledgment", dualRead, toCutover, func(e *Snapshot) {
			e.Latch = &Latch{Trigger: "errors", At: noon, Reason: "2 % failed"}
		}, "rollback-acknowledged", Fail, "trigger errors rolled back at 2026-03-01T12:00:00Z: 2 % failed"},

		{"no approval", dualRead, toCutover, func(e *Snapshot) { e.Approvals = nil }, "approved", NoData, "no approval of cutover"},
		{"approved another phase", dualRead, toCutover, func(e *Snapshot) { e.Approvals = e.Approvals[4:] }, "approved", NoData, ""},
		{"approved in an earlier epoch", dualRead, toCutover, func(e *Snapshot) { e.Approvals[3].Epoch = 6 }, "approved", NoData, ""},
		{"approved another configuration", dualRead, toCutover, func(e *Snapshot) { e.Approvals[3].ConfigHash = "c0" }, "approved", NoData, ""},
		{"approved until now", dualRead, toCutover, func(e *Snapshot) { e.Approvals[3].Expires = noon }, "approved", NoData, "the approval of cutover by ann expired at "},
		{"approved", dualRead, toCutover, nil, "approved", Pass, "approved by ann"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			e := ready(c.from)
			if c.change != nil {
				c.change(&e)
			}
			gates := Gates(c.to, DefaultSettings(), e)
			at := slices.IndexFunc(gates, func(g GateResult) bool { return g.Gate == c.gate })
			if at < 0 {
				t.Fatalf("no gate %s before %s", c.gate, c.to)
			}
			g := gates[at]
			if g.Verdict != c.want || !strings.Contains(g.Detail, c.detail) {
				t.Errorf("%s: %s (%s), want %s (%s)", c.gate, g.Verdict, g.Detail, c.want, c.detail)
			}
			if g.Open() != (c.want == Pass) {
				t.Errorf("%s with the verdict %s: open is %v", c.gate, g.Verdict, g.Open())
			}
			g.Overridden = "a reason"
			if g.Open() != (c.want == Pass || !g.Interlock) {
				t.Errorf("%s, overridden: open is %v", c.gate, g.Open())
			}
		})
	}
}

func TestSoakTimeGateHasADueTime(t *testing.T) {
	t.Parallel()
	e := ready(Route{Phase: ShadowWrite})
	e.Status.RouteSince = noon.Add(-time.Hour)
	for _, g := range Gates(Route{Phase: DualRead, Percent: 100}, DefaultSettings(), e) {
		if g.Gate == "soak-time" && !g.Due.Equal(noon.Add(23*time.Hour)) {
			t.Errorf("due %s", g.Due)
		}
	}
}

// TestInterlocksCantBeOverridden: whatever the verdict, an override opens a gate only
// if it is not an interlock. An empty snapshot keeps every step to cutover blocked.
func TestInterlocksCantBeOverridden(t *testing.T) {
	t.Parallel()
	for _, verdict := range []Verdict{Pass, Fail, Inconclusive, NoData, Error, ""} {
		for _, interlock := range []bool{false, true} {
			for _, reason := range []string{"", "because"} {
				g := GateResult{Verdict: verdict, Interlock: interlock, Overridden: reason}
				if want := verdict == Pass || reason != "" && !interlock; g.Open() != want {
					t.Errorf("%+v: open is %v", g, !want)
				}
			}
		}
	}
	e := ready(Route{Phase: DualRead, Percent: All})
	e.Backfill, e.Status.JournalKeys, e.Status.Dirty, e.Fleet.Behind = nil, 3, noon, 1
	e.Status.StateLoss = &StateLoss{Instance: "web-1", Route: Route{Phase: Grace, Epoch: 9}}
	gates := Gates(Route{Phase: Cutover, Percent: 100}, DefaultSettings(), e)
	for i := range gates {
		gates[i].Overridden = "because"
	}
	var left []string
	for _, g := range Closed(gates) {
		left = append(left, g.Gate)
	}
	if got := strings.Join(left, " "); got != "state-whole fleet-settled backfill-done journal-empty no-lost-queue" {
		t.Errorf("after overriding everything, closed: %s", got)
	}
}

// TestNoApprovalGateUnlessConfigured: without approvals in the settings there is no gate for them.
func TestNoApprovalGateUnlessConfigured(t *testing.T) {
	t.Parallel()
	s := DefaultSettings()
	s.Approval.For = nil
	e := ready(Route{Phase: DualRead, Percent: All})
	e.Approvals = nil
	if closed := Closed(Gates(Route{Phase: Cutover, Percent: 100}, s, e)); len(closed) > 0 {
		t.Errorf("closed: %+v", closed)
	}
}

// TestMeasuredGatesMayBeTurnedOff, each with a reason that is shown.
func TestMeasuredGatesMayBeTurnedOff(t *testing.T) {
	t.Parallel()
	to := Route{Phase: Cutover, Percent: 100}
	e := ready(Route{Phase: DualRead, Percent: All})
	e.Evaluations = nil
	s := DefaultSettings()
	s.Gates.Consistency.Off = "compared elsewhere"
	if got := names(Closed(Gates(to, s, e))); got != "shadow-writes added-latency" {
		t.Errorf("one is off, closed are %s", got)
	}
	s.Gates.Off = "a rehearsal"
	gates := Gates(to, s, e)
	if got := names(Closed(gates)); got != "" {
		t.Errorf("all are off, closed are %s", got)
	}
	for _, g := range gates {
		if want := map[string]string{"consistency": "off: compared elsewhere", "shadow-writes": "off: a rehearsal"}[g.Gate]; want != "" && (g.Verdict != Off || g.Detail != want) {
			t.Errorf("%+v", g)
		}
	}
	s = DefaultSettings()
	s.Gates.Custom = []CustomGate{{Question: Question{Name: "smoke"}, Before: []Phase{Grace}}}
	s.Gates.Drill.Within = 1
	if got := names(Closed(Gates(to, s, ready(Route{Phase: DualRead, Percent: All})))); got != "drill" {
		t.Errorf("into cutover, closed are %s", got)
	}
	if got := names(Closed(Gates(Route{Phase: Grace}, s, ready(Route{Phase: Cutover, Percent: All})))); got != "smoke" {
		t.Errorf("into grace, closed are %s", got)
	}
}

func names(gates []GateResult) string {
	var list []string
	for _, g := range gates {
		list = append(list, g.Gate)
	}
	return strings.Join(list, " ")
}
