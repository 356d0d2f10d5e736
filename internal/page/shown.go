package page

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/humanize"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/reconcile"
)

// warning is what an operator must know first.
type warning struct {
	Tone, Head, Text string
	At               time.Time // zero: not known
	Remedy           string
}

// Warnings are what stands out, the worst first.
func (s shown) Warnings() (all []warning) {
	st, now := s.St(), s.Now()
	add := func(tone, head, text string, at time.Time, h hint.Hint) {
		w := warning{Tone: tone, Head: head, Text: text, At: at}
		if !h.IsZero() {
			w.Remedy = s.Remedy(h)
		}
		all = append(all, w)
	}
	if st.StateLoss != nil {
		add("bad", "State lost", st.StateLoss.Describe(st.Route), time.Time{}, phases.StateLossHint())
	}
	if st.TargetLost != "" {
		add("bad", "Target", st.TargetLost, time.Time{}, hint.Hint{Do: hint.Doctor})
	}
	if st.Attempt != "" && (st.Route.Phase == phases.Grace || st.Route.Phase.Passing()) {
		add("bad", "Fence", "legacy may refuse writes, and writes may fail: a command moves authority, or was interrupted", time.Time{},
			hint.Hint{Do: hint.Advance, Text: "which resumes it; or a rollback, which undoes it"})
	}
	if l := s.Snapshot.Latch; l != nil {
		add("bad", "Rolled back automatically", fmt.Sprintf("trigger %s: %s", l.Trigger, l.Reason), l.At, hint.Hint{Do: hint.Acknowledge, Text: "once its cause is fixed"})
	}
	if st.Paused != "" {
		add("wait", "Paused", st.Paused, time.Time{}, hint.Hint{Do: hint.Resume})
	}
	if f := s.Snapshot.Fault; f != nil {
		add("wait", "Fault injected for a drill", f.String(), time.Time{}, hint.Hint{Do: hint.DrillLift})
	}
	if n := len(s.Fleet.Lapsed); n > 0 {
		add("bad", "Lapsed", humanize.Counted(n, "lease")+" expired without leaving: "+s.Fleet.Lapsed[0], time.Time{}, phases.EvictHint(s.Fleet.Lapsed[0]))
	}
	if c := s.Snapshot.Capture; s.Capture.On() && st.Route.Phase.Captured() {
		switch {
		case c == nil:
			add("wait", "Change capture", "no process has captured changes yet", time.Time{}, hint.Hint{Do: hint.Serve})
		case c.Lost != "":
			add("bad", "Change capture", "lost: "+c.Lost, c.LostAt, c.LostHint())
		case !c.Runs(now):
			add("bad", "Change capture", cmp.Or(c.Error, "does not run"), c.Reported, hint.Hint{Do: hint.Serve})
		}
	}
	for _, c := range st.Columns {
		add(map[bool]string{true: "bad", false: "wait"}[c.Broken], "Columns", c.Side+": "+c.Detail, time.Time{}, phases.ColumnHint(c))
	}
	if b := s.Snapshot.Bypass; b != nil && st.Route.Phase.Compared() && b.Found() {
		add("bad", "Writes past the application", b.Describe(), b.Last, phases.BypassHint())
	}
	return all
}

// Blocking are the closed gates before the next step.
func (s shown) Blocking() []phases.GateResult { return phases.Closed(s.Status.Gates) }

// Why is a gate's reason. That of the soak time would change each second: the head has the time on the route.
func (s shown) Why(g Gate) string {
	if g.Gate == "soak-time" {
		return phases.Duration(s.settings.Soak(s.St().Route)).String() + " needed on this route"
	}
	return g.Detail
}

// Expected says when the next step can come, and by whom.
func (s shown) Expected() string {
	n := s.Next
	if n == nil {
		return "no further step"
	}
	who := "a person takes it"
	if n.By == "schedule" {
		who = "the daemon takes it"
	}
	switch {
	case len(n.Never) > 0:
		return who + "; at the traffic so far a gate can't get enough data"
	case len(n.WaitsFor) == 0:
		return who + ": nothing blocks it"
	case n.Due.After(s.Now()):
		return who + "; expected at " + n.Due.UTC().Format("15:04 UTC on 2 January")
	}
	return who + " once the gates are open"
}

// TriggersAct reports whether a firing trigger rolls back in the present phase.
func (s shown) TriggersAct() bool { return s.St().Route.Phase.TriggersAct() }

// Stop is for how long writes wait in a rollback.
func (s shown) Stop() string { return stopText(s.St()) }

func stopText(st phases.Status) string {
	cost := phases.ClassOf(st)
	switch {
	case cost.Class == phases.Impossible:
		return "legacy no longer follows: no rollback leads there"
	case cost.Stop == 0:
		return "writes do not stop"
	}
	seconds := func(f float64) string { return humanize.Span(time.Duration(f * float64(time.Second))) }
	text := "writes wait about " + seconds(cost.Stop)
	if cost.Copy > 0 {
		text += ", once " + humanize.Counted(st.ReturnRest, "key") + " are copied in about " + seconds(cost.Copy)
	}
	return text
}

// Fleets sums the fleet up.
func (s shown) Fleets() string {
	f := s.Fleet
	if s.Settled {
		return humanize.Counted(f.Live, "instance") + ", settled"
	}
	return fmt.Sprintf("%s, %d behind, %d lapsed", humanize.Counted(f.Live, "instance"), f.Behind, len(f.Lapsed))
}

// LeaseState is an instance's.
func (s shown) LeaseState(l phases.Lease) string {
	switch {
	case l.Lapsed:
		return "lapsed"
	case l.Acknowledged < s.St().Route.Epoch:
		return "behind"
	case l.Other:
		return "other"
	}
	return "settled"
}

// stretch is a period of time; of two it is what they share.
type stretch struct{ from, to time.Time }

// spent is how a time was used: active while a job ran or a soak time was needed, else waiting.
type spent struct{ Total, Active time.Duration }

// Waiting is the rest.
func (s spent) Waiting() time.Duration { return s.Total - s.Active }

// Spent is how the time on the present route was used.
func (s shown) Spent() spent { return s.spentIn(s.St().Route, s.St().RouteSince, s.Now()) }

func (s shown) spentIn(route phases.Route, from, to time.Time) spent {
	active := []stretch{{from, from.Add(s.settings.Soak(route))}}
	open := func(job string) time.Time { // until when an unfinished one was active
		for _, j := range s.Jobs {
			if j.Job == job && j.State != "interrupted" && j.State != "paused" {
				return s.Now()
			}
		}
		return time.Time{}
	}
	if b := s.Backfill; b != nil {
		active = append(active, stretch{b.Began, orElse(b.Finished, open("backfill"))})
	}
	for _, r := range s.Runs {
		active = append(active, stretch{r.Began, orElse(r.Finished, open("reconcile"))})
	}
	slices.SortFunc(active, func(a, b stretch) int { return a.from.Compare(b.from) })
	sum := spent{Total: to.Sub(from)}
	at := from
	for _, one := range active {
		begin, end := later(one.from, at), one.to
		if end.After(to) {
			end = to
		}
		if end.After(begin) {
			sum.Active += end.Sub(begin)
			at = end
		}
	}
	return sum
}

func orElse(t, other time.Time) time.Time {
	if t.IsZero() {
		return other
	}
	return t
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// step is a route that the migration was on.
type step struct {
	state.Epoch
	Until   time.Time // zero: it is on it
	Entry   *state.Entry
	Settles time.Duration // until the last instance had acknowledged it; 0: not known
	Spent   spent
	Waits   bool // writes waited as long as it lasted
	Class   phases.Class
}

// Lasted is how long the migration was on the route.
func (s step) Lasted() time.Duration { return s.Spent.Total }

// Steps are the routes that the migration was on, newest first.
func (s shown) Steps() (all []step) {
	entries := map[int64]*state.Entry{}
	for i := range s.History {
		if e := &s.History[i]; e.From.Epoch != e.To.Epoch {
			entries[e.To.Epoch] = e
		}
	}
	until := time.Time{}
	for _, e := range s.Epochs {
		one := step{Epoch: e, Until: until, Entry: entries[e.Route.Epoch], Waits: e.Route.Phase.Passing()}
		one.Class = phases.ClassOf(phases.Status{Route: e.Route, Reversible: s.St().Reversible}).Class
		if !e.Settled.IsZero() {
			one.Settles = e.Settled.Sub(e.Began)
		}
		one.Spent = s.spentIn(e.Route, e.Began, orElse(until, s.Now()))
		all = append(all, one)
		until = e.Began
	}
	return all
}

// place is one phase of the way.
type place struct {
	Phase phases.Phase
	State string // done, now or ahead
	Entry string // percent, in the present one
}

// Way is all phases in order.
func (s shown) Way() (all []place) {
	route := s.St().Route
	at := route.Phase.Position()
	for i, p := range phases.Order {
		one := place{Phase: p, State: "ahead"}
		switch {
		case i < at:
			one.State = "done"
		case i == at:
			one.State = "now"
			if route.Phase.Ramped() {
				one.Entry = route.Percent.String() + " %"
			}
		}
		all = append(all, one)
	}
	return all
}

// meanings explain the classes of findings.
var meanings = map[reconcile.Class]string{
	reconcile.Missing:      "legacy has the record, the target does not",
	reconcile.Extra:        "the target has the record, legacy does not",
	reconcile.Stale:        "the target's copy is of an older version than legacy's last known one",
	reconcile.Ahead:        "the target's version is newer than any that legacy has given: legacy may have lost transactions",
	reconcile.FieldDiff:    "fields differ at the same version: a write passed the application, or a value is encoded in another way",
	reconcile.Encoding:     "equal after Unicode normalization, or the entry can't be decoded",
	reconcile.Expiry:       "the records agree, when they expire does not",
	reconcile.Type:         "the target's key holds a value of another type",
	reconcile.ForeignClass: "the target's key holds what migrator did not write",
	reconcile.EqualKey:     "legacy has the record under a key that it takes as equal",
}

// Meaning explains a finding.
func (s shown) Meaning(c reconcile.Class) string { return meanings[c] }

// RunState is a reconcile run's status, with its pace.
func (s shown) RunState(r reconcile.Run) string {
	if r.Status != reconcile.Running && r.Status != reconcile.Paused {
		return string(r.Status)
	}
	for _, j := range s.Jobs {
		if j.Job == "reconcile" || j.Job == "repair" {
			return j.State
		}
	}
	return string(r.Status)
}

// Entries are the history's, newest first.
func (s shown) Entries() []state.Entry {
	all := slices.Clone(s.History)
	slices.Reverse(all)
	return all
}
