package runbook_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/internal/state/runbooks"
	"github.com/stranglerfig/migrator/runbook"
)

// behind is the log of a database whose clock is two hours behind this machine's.
type behind struct{ *runbooks.Log }

const hours = 2 * time.Hour

func (b behind) Intend(ctx context.Context, r runbook.Record) (runbook.Record, error) {
	r, err := b.Log.Intend(ctx, r)
	r.Began = r.Began.Add(-hours)
	return r, err
}

func (b behind) Records(ctx context.Context) ([]runbook.Record, error) {
	all, err := b.Log.Records(ctx)
	for i := range all {
		all[i].Began = all[i].Began.Add(-hours)
	}
	return all, err
}

func (b behind) Now(ctx context.Context) (time.Time, error) {
	now, err := b.Log.Now(ctx)
	return now.Add(-hours), err
}

func TestFixedWaitUsesLogClock(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	r := parse(t, "```text {#rest .wait for=1h}\nlet it rest\n```\n")
	run := b.begin(r)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	log, err := b.runs.Take(ctx, run.ID)
	must(t, err)
	defer log.Release()
	err = (&runbook.Runner{Book: r, Log: behind{log}, Do: b.executors(r, run), Notify: func(e runbook.Event) {
		if e.What == "wait" {
			cancel()
		}
	}}).Run(ctx)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("the wait ended before its hour: %v", err)
	}
}

// The database checks an approver against the kind and the terms in the record, so the runner
// must not accept a record with others.
func TestRecordWithWeakerTermsIsNoApproval(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ terms, forged string }{
		"another kind":              {"two_people=true", `'check', 'go', '{}'`},
		"another role":              {"role=postgres", `'approve', 'go', '{}'`},
		"one person where it's two": {"two_people=true", `'approve', 'go', '{}'`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			r := parse(t, "```text {#go .approve timeout=50ms "+c.terms+"}\nShall we?\n```\n")
			run := b.begin(r)
			_, err := b.store.Pool().Exec(t.Context(), `INSERT INTO migrator.runbook_steps (run, step, direction, attempt, kind, block, intent, outcome, outcome_at)
				VALUES ($1, 'go', 'forward', 1, `+c.forged+`, 'done', clock_timestamp())`, run.ID)
			must(t, err)
			var waits *runbook.WaitingError
			if err := b.resume(r, run, func(x *runbook.Runner) { x.Poll = 10 * time.Millisecond }); !errors.As(err, &waits) {
				t.Errorf("%v", err)
			}
			if got := b.outcomes(run); got != "go:done go:?" {
				t.Errorf("%s", got)
			}
		})
	}
}
