package phases

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

var customName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,62}$`)

const (
	mostSamples     = 1_000_000_000
	mostConsecutive = 100 // evaluations: of more, the first would be deleted before the last is made
)

// refusals collects the invalid settings, each with its path.
type refusals []error

func (r *refusals) add(format string, args ...any) { *r = append(*r, fmt.Errorf(format, args...)) }

func (r *refusals) watch(path, off string, w Watch) {
	if off != "" && strings.TrimSpace(off) == "" || w.Off != "" && strings.TrimSpace(w.Off) == "" {
		r.add("%s.off: give a reason", path)
	}
	if w.Interval < leastWatchInterval {
		r.add("%s.interval: must be at least %s", path, leastWatchInterval)
	}
	if w.InitialDelay < 0 {
		r.add("%s.initial_delay: must not be negative", path)
	}
	if w.MinSamples < 0 || w.MinSamples > mostSamples {
		r.add("%s.min_samples: must be from 0 to %d, not %d", path, mostSamples, w.MinSamples)
	}
}

// inside requires a share strictly between 0 and 100 %: a bound can be below and above it.
func (r *refusals) inside(path string, s Share) {
	if s == 0 || s >= Whole {
		r.add("%s: must be above 0%% and below 100%%", path)
	}
}

func (r *refusals) failures(path string, g FailureGate) {
	r.watch(path, "", g.Watch)
	r.inside(path+".limit", g.Limit)
	if g.Calm < 0 {
		r.add("%s.calm: must not be negative", path)
	}
}

// Validate returns an error for each invalid setting, with its path.
func (g GateSettings) Validate() error {
	var r refusals
	c := g.Consistency
	r.watch("gates.consistency", g.Off, c.Watch)
	r.inside("gates.consistency.limit", c.Limit)
	r.inside("gates.consistency.confidence", c.Confidence)
	if c.Coverage == 0 || c.Coverage > Whole {
		r.add("gates.consistency.coverage: must be above 0%% and up to 100%%")
	}
	if c.For < 0 {
		r.add("gates.consistency.for: must not be negative")
	}
	r.failures("gates.shadow_writes", g.ShadowWrites)
	r.failures("gates.target_reads", g.TargetReads)
	r.watch("gates.added_latency", "", g.AddedLatency.Watch)
	if g.AddedLatency.P95 <= 0 {
		r.add("gates.added_latency.p95: must be above 0, such as 10ms")
	}
	r.watch("gates.runbook", "", g.Runbook.Watch)
	if g.Runbook.Within < 0 {
		r.add("gates.runbook.within: must not be negative")
	}
	r.watch("gates.drill", "", g.Drill.Watch)
	if g.Drill.Within < 0 {
		r.add("gates.drill.within: must not be negative")
	}
	for i, kind := range g.Drill.Faults {
		if !slices.Contains(DrillFaults, kind) || slices.Contains(g.Drill.Faults[:i], kind) {
			r.add("gates.drill.faults: %q: want each of latency, errors, blackhole and corrupt once at most", kind)
		}
	}
	if len(g.Drill.Faults) > 0 && g.Drill.Within == 0 && g.Drill.Off == "" {
		r.add("gates.drill.faults: need gates.drill.within, such as 7d")
	}
	if off := g.Bypass.Off; off != "" && strings.TrimSpace(off) == "" {
		r.add("gates.bypass.off: give a reason")
	}
	if g.Bypass.For < 0 {
		r.add("gates.bypass.for: must not be negative")
	}
	if g.Bypass.Limit > Whole {
		r.add("gates.bypass.limit: must be up to 100%%")
	}
	if off := g.Capture.Off; off != "" && strings.TrimSpace(off) == "" {
		r.add("gates.capture.off: give a reason")
	}
	if g.Capture.Lag < 0 {
		r.add("gates.capture.lag: must not be negative")
	}
	names := []string{
		GateBypass, GateCapture, GateCaptureLag, GateConsistency, GateShadowWrites, GateTargetReads, GateAddedLatency, GateDrill, GateRunbook, GateAcknowledged, "state-whole", "fleet-settled", "routes-compatible",
		"backfill-done", "journal-empty", "no-lost-queue", "not-paused", "soak-time", "reconcile-clean", "approved",
	}
	for i, one := range g.Custom {
		at := fmt.Sprintf("gates.custom[%d]", i)
		names = r.question(at, one.Question, one.Watch, names, 0)
		r.watch(at, "", one.Watch)
		for j, p := range one.Before {
			if p.Position() < DualRead.Position() || p.Passing() {
				r.add("%s.before[%d]: %q: want dual-read, cutover, grace, retain or complete", at, j, p)
			}
		}
	}
	return errors.Join(r...)
}

// Validate returns an error for each invalid setting, with its path.
func (t TriggerSettings) Validate() error {
	var r refusals
	r.watch("triggers.mismatches", t.Off, t.Mismatches.Watch)
	r.inside("triggers.mismatches.limit", t.Mismatches.Limit)
	r.watch("triggers.errors", "", t.Errors.Watch)
	if r.inside("triggers.errors.limit", t.Errors.Limit); t.Errors.Limit >= Whole/2 && t.Errors.Limit < Whole {
		r.add("triggers.errors.limit: must be below 50%%")
	}
	r.watch("triggers.latency", "", t.Latency.Watch)
	if !(t.Latency.Ratio >= 1 && t.Latency.Ratio <= 1000) {
		r.add("triggers.latency.ratio: must be from 1 to 1000, such as 1.2")
	}
	if t.Latency.Ceiling < 0 {
		r.add("triggers.latency.ceiling: must not be negative")
	}
	r.watch("triggers.lost_writes", "", t.LostWrites.Watch)
	names := []string{TriggerMismatches, TriggerErrors, TriggerLatency, TriggerLostWrites}
	for i, one := range t.Custom {
		at := fmt.Sprintf("triggers.custom[%d]", i)
		alerts := 0
		if len(one.Alertmanager.Labels) > 0 {
			alerts = 1
		}
		if one.Alertmanager.Labels["source"] == OwnSource || one.Alertmanager.Labels["alertname"] == Watchdog {
			r.add("%s.alertmanager.labels: alerts about migrator, and the %s, fire no trigger", at, Watchdog)
		}
		names = r.question(at, one.Question, one.Watch, names, alerts)
		r.watch(at, "", one.Watch)
		switch {
		case one.OnBlind != HoldOnBlind && one.OnBlind != RollbackOnBlind:
			r.add("%s.on_blind: %q: want hold or rollback", at, one.OnBlind)
		case one.OnBlind == RollbackOnBlind && alerts > 0:
			r.add("%s.on_blind: silence of an Alertmanager is not a missing answer; leave it out", at)
		}
		if one.Consecutive < 1 || one.Consecutive > mostConsecutive || alerts > 0 && one.Consecutive > 1 {
			r.add("%s.consecutive: must be from 1 to %d, and 1 with alertmanager, not %d", at, mostConsecutive, one.Consecutive)
		}
	}
	return errors.Join(r...)
}

// question requires one source, and a limit for its number. It returns the names in use.
func (r *refusals) question(at string, q Question, w Watch, taken []string, alerts int) []string {
	switch {
	case q.Name == "":
		r.add("%s.name: is missing", at)
	case !customName.MatchString(q.Name):
		r.add("%s.name: %q: want lower-case letters, digits and -, a letter first, 63 at most", at, q.Name)
	case slices.Contains(taken, q.Name):
		r.add("%s.name: %q is taken", at, q.Name)
	}
	sources := alerts
	for _, given := range []bool{q.PromQL != "", len(q.Command) > 0} {
		if given {
			sources++
		}
	}
	if sources != 1 {
		r.add("%s: want exactly one of promql, command and, of a trigger, alertmanager", at)
	}
	switch limits := q.Above != nil || q.Below != nil; {
	case q.PromQL != "" && (q.Above != nil) == (q.Below != nil):
		r.add("%s: promql wants either above or below", at)
	case q.PromQL == "" && limits:
		r.add("%s: above and below are for promql", at)
	}
	if w.MinSamples != 0 {
		r.add("%s.min_samples: an external source decides itself when it has enough; leave it out", at)
	}
	if q.Timeout <= 0 {
		r.add("%s.timeout: must be above 0", at)
	}
	return append(taken, q.Name)
}
