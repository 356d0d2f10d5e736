package daemon_test

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/internal/judge"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/test/statetest"
	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
)

// TestTriggerRollsBackAfterStateOutage: a trigger fires, the state database dies before the
// rollback, and the rollback is made once the database is back.
func TestTriggerRollsBackAfterStateOutage(t *testing.T) {
	t.Parallel()
	machine := testenv.Postgres(t)
	b := newFixture(t, machine.URL())
	killed := make(chan struct{})
	b.reportReads(0, 200)
	e := b.engine(func(e *runningEngine) {
		once := sync.OnceFunc(func() {
			defer close(killed)
			if err := machine.Kill(); err != nil {
				t.Error(err)
			}
		})
		e.state.transition = func(ctx context.Context, decide func(phases.Snapshot) (phases.Move, error)) (phases.Status, error) {
			once()
			return b.state.Transition(ctx, items, decide)
		}
	})
	<-killed
	e.await("the logged failure", func() bool { return strings.Contains(e.logged(), `job="roll back"`) })
	if err := machine.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	e.await("the rollback", func() bool { return strings.Contains(e.logged(), `msg="rolled back"`) })
	e.stop()
	if n := b.transitionsBy(phases.CauseTrigger); n != 1 || b.phase() != phases.DualRead {
		t.Errorf("%d rollbacks, it is on %s", n, b.phase())
	}
}

// TestTwoLeadersRollBackOnce: two leaders see the same firing, and one rolls back. Then a
// leader is deposed in the middle of a rollback, and another makes it.
func TestTwoLeadersRollBackOnce(t *testing.T) {
	t.Parallel()
	b := newFixture(t, statetest.URL(t))
	b.reportReads(0, 200)
	// Both have seen the firing before either acts.
	var both sync.WaitGroup
	both.Add(2)
	meet := func(e *runningEngine) {
		once := sync.OnceFunc(func() { both.Done(); both.Wait() })
		e.state.transition = func(ctx context.Context, decide func(phases.Snapshot) (phases.Move, error)) (phases.Status, error) {
			once()
			return b.state.Transition(ctx, items, decide)
		}
	}
	for _, e := range []*runningEngine{b.engine(meet), b.engine(meet)} {
		e.await("the rollback", func() bool { return b.phase() == phases.DualRead })
		e.awaitEvaluations()
		e.stop()
	}
	if n := b.transitionsBy(phases.CauseTrigger); n != 1 {
		t.Errorf("%d rollbacks", n)
	}

	b.check(b.state.Acknowledge(t.Context(), items, "fixed"))
	b.cutover()
	b.reportReads(0, 200)
	deposed := make(chan struct{})
	first := b.engine(func(e *runningEngine) {
		e.state.transition = func(ctx context.Context, decide func(phases.Snapshot) (phases.Move, error)) (phases.Status, error) {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			return b.state.Transition(ctx, items, func(e phases.Snapshot) (phases.Move, error) {
				defer sync.OnceFunc(func() { cancel() })() // decided, and not committed
				move, err := decide(e)
				select {
				case <-deposed:
				default:
					close(deposed)
				}
				return move, err
			})
		}
	})
	<-deposed
	second := b.engine(nil)
	second.await("the rollback", func() bool { return b.phase() == phases.DualRead })
	first.awaitEvaluations()
	first.stop()
	second.stop()
	if n := b.transitionsBy(phases.CauseTrigger); n != 2 {
		t.Errorf("%d rollbacks", n)
	}
}

// TestFrozenLeaderIgnoresStaleFiring: a leader sees a firing and freezes. It continues
// after another leader has rolled back and an operator has advanced again.
func TestFrozenLeaderIgnoresStaleFiring(t *testing.T) {
	t.Parallel()
	b := newFixture(t, statetest.URL(t))
	b.reportReads(0, 200)
	frozen, thaw := make(chan struct{}), make(chan struct{})
	first := b.engine(func(e *runningEngine) {
		once := sync.OnceFunc(func() { close(frozen); <-thaw })
		e.state.transition = func(_ context.Context, decide func(phases.Snapshot) (phases.Move, error)) (phases.Status, error) {
			once()
			return b.state.Transition(t.Context(), items, decide)
		}
	})
	<-frozen
	second := b.engine(nil)
	second.await("the rollback", func() bool { return b.phase() == phases.DualRead })
	second.stop()
	b.check(b.state.Acknowledge(t.Context(), items, "fixed"))
	b.cutover()
	close(thaw)
	first.awaitEvaluations()
	first.stop()
	if n := b.transitionsBy(phases.CauseTrigger); n != 1 || b.phase() != phases.Cutover {
		t.Errorf("%d rollbacks, it is on %s:\n%s", n, b.phase(), first.logged())
	}
}

// gatedSource is a source that answers once release is closed.
type gatedSource struct {
	release chan struct{}
	reading judge.Reading
}

func (s gatedSource) Read(ctx context.Context) judge.Reading {
	select {
	case <-s.release:
		return s.reading
	case <-ctx.Done():
		return judge.Reading{Verdict: phases.Error, Detail: ctx.Err().Error()}
	}
}

func (b *fixture) addCustomTrigger(name, onBlind string) {
	b.settings.Triggers.Custom = []phases.CustomTrigger{{
		Question: phases.Question{Name: name, PromQL: "up", Above: new(float64), Timeout: phases.Duration(time.Minute)},
		OnBlind:  onBlind, Consecutive: 1, Trial: phases.Trial{Watch: phases.Watch{Interval: evaluateEvery}},
	}}
}

// TestBlindTriggerWaitsForFirstAnswer: on_blind: rollback applies to a source that can't
// answer, not to one whose first answer is still pending.
func TestBlindTriggerWaitsForFirstAnswer(t *testing.T) {
	t.Parallel()
	b := newFixture(t, statetest.URL(t))
	b.addCustomTrigger("burn", phases.RollbackOnBlind)
	b.reportReads(200, 0)
	source := gatedSource{make(chan struct{}), judge.Reading{Verdict: phases.Error, Detail: "connection refused"}}
	e := b.engine(func(e *runningEngine) { e.judge.TriggerSources["burn"] = source })
	e.awaitEvaluations()
	if b.phase() != phases.Cutover {
		t.Fatalf("it fired before its source could answer:\n%s", e.logged())
	}
	close(source.release)
	e.await("the rollback", func() bool { return b.phase() == phases.DualRead })
}

// TestDeadSourceDoesNotFire: neither a dead source with on_blind: hold fires, nor a daemon
// that restarts after a firing that was rolled back and acknowledged.
func TestDeadSourceDoesNotFire(t *testing.T) {
	t.Parallel()
	b := newFixture(t, statetest.URL(t))
	b.addCustomTrigger("burn", phases.HoldOnBlind)
	b.reportReads(0, 200)
	dead := gatedSource{make(chan struct{}), judge.Reading{Verdict: phases.Error, Detail: "connection refused"}}
	close(dead.release)
	ask := func(e *runningEngine) { e.judge.TriggerSources["burn"] = dead }
	e := b.engine(ask)
	e.await("the rollback", func() bool { return b.phase() == phases.DualRead })
	e.stop()
	b.check(b.state.Acknowledge(t.Context(), items, "fixed"))
	b.cutover()
	b.reportReads(200, 0)
	e = b.engine(ask)
	e.awaitEvaluations()
	e.await("an evaluation of the dead source", func() bool {
		all, err := b.state.Evaluations(t.Context(), items, state.EvaluationFilter{Kind: phases.TriggerKind, Name: "burn", Newest: true})
		return err == nil && len(all) == 1 && all[0].Epoch == b.grant.Route.Epoch && all[0].Verdict == phases.Error
	})
	e.stop()
	if n := b.transitionsBy(phases.CauseTrigger); n != 1 || b.phase() != phases.Cutover {
		t.Errorf("%d rollbacks, it is on %s:\n%s", n, b.phase(), e.logged())
	}
}

// TestRampStopsAfterWriteFailureRollback: a rollback because of a failed write sets no latch
// and needs none. It ends at the top of dual-read's ramp, and only an operator advances to
// cutover.
func TestRampStopsAfterWriteFailureRollback(t *testing.T) {
	t.Parallel()
	b := newFixture(t, statetest.URL(t))
	result, err := b.fleet.Journal(t.Context(), []dual.JournalEntry{{Key: "1", Version: record.MakeVersion(0, 0, 1), Reason: "refused"}})
	b.check(err)
	if !result.TargetRead {
		t.Fatalf("%+v", result)
	}
	b.check(b.fleet.RollBack(t.Context(), b.grant.Route.Epoch, "the target refused a write"))
	b.acknowledge()
	b.reportReads(200, 0)
	e := b.engine(nil)
	e.awaitEvaluations()
	e.await("the log that an operator is waited for", func() bool { return strings.Contains(e.logged(), `"step due"`) })
	e.stop()
	changes, err := b.state.Changes(t.Context(), items)
	b.check(err)
	if at := slices.IndexFunc(changes, func(c state.Change) bool { return c.Cause == phases.CauseFailure }); at != len(changes)-1 || b.phase() != phases.DualRead {
		t.Errorf("it advanced: %+v", changes)
	}
}
