package control_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/dual/pgfleet"
	"github.com/stranglerfig/migrator/dual/telemetry"
	"github.com/stranglerfig/migrator/internal/control"
	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/judge"
	"github.com/stranglerfig/migrator/internal/stats/sketch"
	"github.com/stranglerfig/migrator/phases"
)

// source returns its reading; if hangs is set, it returns when its context ends.
type source struct {
	reading judge.Reading
	hangs   bool
}

func (s source) Read(ctx context.Context) judge.Reading {
	if s.hangs {
		<-ctx.Done()
		return judge.Reading{Verdict: phases.Error, Detail: ctx.Err().Error()}
	}
	return s.reading
}

// counted reports a window of an instance.
func (b *bench) counted(f *pgfleet.Fleet, g dual.Grant, sequence int64, counts map[telemetry.Series]uint64) {
	b.t.Helper()
	w := telemetry.Window{
		Incarnation: "i", Instance: g.Instance, Sequence: sequence, Epoch: g.Route.Epoch, ConfigHash: g.ConfigHash, Length: 100 * time.Millisecond,
	}
	for s, n := range counts {
		c := telemetry.Count{Series: s, N: n}
		if s.Role == telemetry.Added {
			c.Latency = new(sketch.Sketch)
			c.Latency.Add(time.Millisecond, n)
		}
		w.Counts = append(w.Counts, c)
	}
	b.check(f.Observe(b.ctx, g.Lease, []telemetry.Window{w}))
}

func measuredBench(t *testing.T) (*bench, *control.Controller, *judge.Judge) {
	t.Helper()
	b := newBench(t)
	s := b.m.Settings()
	s.Gates = phases.DefaultGates()
	s.Gates.Consistency.For = phases.Duration(time.Millisecond)
	s.Gates.Bypass.Off = "no process looks at the counters here"
	s.FillCustom()
	j := &judge.Judge{State: b.state, Migration: "items", Settings: s}
	ctl := b.controller()
	ctl.Settings, ctl.Judge = s, j
	b.walk(phases.DualRead)
	b.interlocked()
	return b, ctl, j
}

var healthy = map[telemetry.Series]uint64{
	{Operation: telemetry.Comparison, Store: telemetry.Both, Role: telemetry.Shadow, Outcome: telemetry.Agreed}: 20_000,
	{Operation: telemetry.Write, Store: telemetry.Target, Role: telemetry.Serving, Outcome: telemetry.OK}:       20_000,
	{Operation: telemetry.Write, Store: telemetry.Both, Role: telemetry.Added, Outcome: telemetry.OK}:           20_000,
}

// TestAnAdvanceEvaluatesItsGates: without a daemon, the gates open on the instances'
// telemetry; before, each is closed, and an operator's override opens it.
func TestAnAdvanceEvaluatesItsGates(t *testing.T) {
	t.Parallel()
	b, ctl, _ := measuredBench(t)
	fleet, grant := b.joined("web", time.Minute)
	_, err := fleet.Renew(b.ctx, grant.Lease, grant.Route.Epoch)
	b.check(err)
	a := fenceGates()
	a.DryRun = true
	var refusal *control.GatesClosedError
	if _, err := ctl.Advance(b.ctx, a); !errors.As(err, &refusal) {
		t.Fatalf("without telemetry: %v", err)
	}
	var closed []string
	for _, g := range phases.Closed(refusal.Gates) {
		closed = append(closed, g.Gate)
		if g.Verdict != phases.NoData || g.Interlock {
			t.Errorf("%+v", g)
		}
	}
	if got := strings.Join(closed, " "); got != "consistency shadow-writes added-latency" {
		t.Fatalf("closed: %s", got)
	}
	b.counted(fleet, grant, 1, healthy)
	ctl.Judge = &judge.Judge{State: b.state, Migration: "items", Settings: ctl.Settings} // another command
	a.DryRun = false
	step, err := ctl.Advance(b.ctx, a)
	if err != nil || !step.Done || step.To.Phase != phases.Cutover {
		t.Fatalf("with telemetry: %+v, %v", step, err)
	}
	for _, g := range step.Gates {
		if g.Gate == phases.GateConsistency && (g.Verdict != phases.Pass || !strings.Contains(g.Detail, "0 of 20000")) {
			t.Errorf("%+v", g)
		}
	}
	_, err = fleet.Renew(b.ctx, grant.Lease, step.To.Epoch)
	b.check(err)
	if _, err := ctl.Advance(b.ctx, control.Advance{}); !errors.As(err, &refusal) {
		t.Fatalf("what was counted in another epoch opens the next step: %v", err)
	}
	words := control.Advance{Overrides: map[string]string{"consistency": "x", "shadow-writes": "x", "target-reads": "x"}}
	refused := func(what, why string, do hint.Action) {
		t.Helper()
		var input *control.InputError
		_, err := ctl.Advance(b.ctx, words)
		if h, _ := hint.Of(err); !errors.As(err, &input) || !strings.Contains(err.Error(), why) || h.Do != do {
			t.Errorf("%s: %v, %s", what, err, h)
		}
	}
	refused("nothing in the place of what they lack", "consistency is not overridden: in the place of what it lacks a full reconcile must be clean", hint.ReconcileFull)
	// A sample, of another epoch, of another configuration, too old, or with a difference.
	for what, set := range map[string]string{
		"a sample": "whole = false", "another epoch": "epoch = epoch - 1", "another configuration": "config_hash = 'other'",
		"too old": "began_at = began_at - interval '8 days'", "a difference": "differences = 1", "repaired": "repaired = 1", "undecided": "unsettled = 1",
	} {
		b.compared(set)
		refused(what, "in the place of what it lacks", hint.ReconcileFull)
	}
	b.compared("")
	if step, err = ctl.Advance(b.ctx, words); err != nil || !step.Done {
		t.Fatalf("by a person's word: %+v, %v", step, err)
	}
	entries, err := b.state.History(b.ctx, "items", 1)
	b.check(err)
	if e := entries[0]; e.Actor == "" || !strings.Contains(string(e.Evidence), `"overridden": "x"`) {
		t.Errorf("the history has %s: %s", e.Actor, e.Evidence)
	}

	// What it has measured can't be overridden, whatever a reconcile found.
	bad := map[telemetry.Series]uint64{{Operation: telemetry.Read, Store: telemetry.Target, Role: telemetry.Serving, Outcome: telemetry.Failed}: 20_000}
	for range 2 {
		grant, err = fleet.Renew(b.ctx, grant.Lease, step.To.Epoch)
		b.check(err)
	}
	b.compared("")
	b.counted(fleet, grant, 2, bad)
	ctl.Judge = &judge.Judge{State: b.state, Migration: "items", Settings: ctl.Settings}
	refused("it fails", "target-reads is not overridden: only a gate that lacks data can be", "")
}

// compared records a full reconcile of the present route that was clean, but for what set says.
func (b *bench) compared(set string) {
	b.t.Helper()
	_, err := b.state.Pool().Exec(b.ctx, `DELETE FROM migrator.reconcile_runs`)
	b.check(err)
	_, err = b.state.Pool().Exec(b.ctx, `INSERT INTO migrator.reconcile_runs (migration, epoch, config_hash, whole, two_way, repair, slice, slices, status, began_at, finished_at, checked)
		SELECT name, epoch, config_hash, true, true, false, 0, 1, 'done', clock_timestamp(), clock_timestamp(), 20 FROM migrator.migrations`)
	b.check(err)
	if set != "" {
		_, err = b.state.Pool().Exec(b.ctx, `UPDATE migrator.reconcile_runs SET `+set)
		b.check(err)
	}
}

// TestJudgeEvaluatesWhenDue: at each gate once in its interval, and again at once in a
// new epoch; every evaluation is stored, and a firing trigger's inputs reproduce its verdict.
func TestJudgeEvaluatesWhenDue(t *testing.T) {
	t.Parallel()
	b, _, j := measuredBench(t)
	gates := func() []phases.Evaluation {
		t.Helper()
		all, err := j.Gates(b.ctx, b.snapshot())
		b.check(err)
		return all
	}
	if first := gates(); len(first) != 3 || first[0].ID == 0 {
		t.Fatalf("%+v", first)
	}
	if again := gates(); len(again) != 0 {
		t.Errorf("evaluated again too early: %+v", again)
	}
	b.walk(phases.Cutover)
	if next := gates(); len(next) != 3 {
		t.Errorf("in the new epoch: %+v", next)
	}
	e, err := b.state.Snapshot(b.ctx, "items")
	b.check(err)
	if !slices.ContainsFunc(e.Evaluations, func(one phases.Evaluation) bool { return one.Name == phases.GateTargetReads }) {
		t.Errorf("kept: %+v", e.Evaluations)
	}
	fleet, grant := b.joined("web", time.Minute)
	b.counted(fleet, grant, 1, map[telemetry.Series]uint64{
		{Operation: telemetry.Comparison, Store: telemetry.Both, Role: telemetry.Shadow, Outcome: telemetry.LostWrite}: 1,
		{Operation: telemetry.Read, Store: telemetry.Target, Role: telemetry.Serving, Outcome: telemetry.Failed}:       40,
	})
	fired, err := j.Triggers(b.ctx, b.snapshot())
	b.check(err)
	var firing []string
	for _, one := range fired {
		again, err := judge.Reevaluate(one)
		if err != nil || again.Verdict != one.Verdict || again.Detail != one.Detail {
			t.Errorf("%+v, again %+v, %v", one, again, err)
		}
		if one.Verdict == phases.Firing {
			firing = append(firing, one.Name)
		}
	}
	if got := strings.Join(firing, " "); got != "errors lost-writes" {
		t.Errorf("firing: %s", got)
	}
}

// TestSourcesDontWaitForEachOther: one that hangs costs its own timeout once, and while
// they are polled no evaluation waits for any.
func TestSourcesDontWaitForEachOther(t *testing.T) {
	t.Parallel()
	b, _, j := measuredBench(t)
	one := 1.0
	ask := func(name string, q phases.Question) phases.CustomTrigger {
		q.Name, q.Timeout = name, phases.Duration(time.Minute)
		if name == "hangs" {
			q.Timeout = phases.Duration(100 * time.Millisecond)
		}
		return phases.CustomTrigger{Question: q, OnBlind: phases.HoldOnBlind, Consecutive: 1, Trial: phases.Trial{Watch: phases.Watch{Interval: phases.Duration(10 * time.Millisecond)}}}
	}
	j.Settings.Triggers.Custom = []phases.CustomTrigger{
		ask("hangs", phases.Question{Command: []string{"x"}}),
		ask("fires", phases.Question{PromQL: "x", Above: &one}), ask("unasked", phases.Question{PromQL: "x", Above: &one}),
	}
	j.TriggerSources = map[string]judge.Source{"hangs": source{hangs: true}, "fires": source{reading: judge.Reading{Value: 2}}}
	verdicts := func() map[string]phases.Verdict {
		t.Helper()
		all, err := j.Triggers(b.ctx, b.snapshot())
		b.check(err)
		found := map[string]phases.Verdict{}
		for _, e := range all {
			found[e.Name] = e.Verdict
		}
		return found
	}
	got := verdicts()
	if _, asked := got["unasked"]; asked || got["hangs"] != phases.Error || got["fires"] != phases.Firing || got[phases.TriggerErrors] != phases.NoData {
		t.Errorf("%v", got)
	}
	ctx, stop := context.WithCancel(b.ctx)
	done := make(chan error, 1)
	j.Watched = true
	go func() { done <- j.Watch(ctx) }()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for got = verdicts(); got["fires"] != phases.Firing; got = verdicts() {
		select {
		case <-tick.C:
		case <-b.ctx.Done():
			t.Fatalf("watched: %v", got)
		}
	}
	stop()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
