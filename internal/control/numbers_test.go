package control_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/internal/control"
	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/store"
)

// numberingTarget gives numbers to new records.
type numberingTarget struct {
	store.TargetRecords
	advance func(ctx context.Context) ([]string, error)
}

func (n *numberingTarget) AdvanceNumbers(ctx context.Context) ([]string, error) {
	return n.advance(ctx)
}

// TestNumbersPassBehindTheFence: once before anything waits, and once where legacy gives none any more and the target
// takes none of its own yet. Without the second one, the step is not taken.
func TestNumbersPassBehindTheFence(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.walk(phases.ShadowWrite)
	b.interlocked()
	b.walk(phases.Grace)
	var at []phases.Phase
	var fenced []bool
	failing := 0
	ctl := b.controller()
	ctl.Target = &numberingTarget{b.target, func(ctx context.Context) ([]string, error) {
		st, err := b.state.Status(b.ctx, "items")
		b.check(err)
		attempt, _, err := b.legacy.FenceState(b.ctx)
		b.check(err)
		at, fenced = append(at, st.Route.Phase), append(fenced, attempt != "")
		ends, _ := ctx.Deadline() // the test's own is later
		if bounded := time.Until(ends) <= time.Minute; bounded != (st.Route.Phase == phases.Fenced) {
			t.Errorf("in %s the time is bounded: %v", st.Route.Phase, bounded)
		}
		if len(at) == failing {
			return nil, errors.New("the sequence is another role's")
		}
		return nil, nil
	}}

	// Neither failure moves authority.
	for _, failing = range []int{1, 2} {
		at, fenced = nil, nil
		_, err := ctl.Advance(b.ctx, fenceGates())
		if err == nil || !strings.Contains(err.Error(), "another role's") || len(at) != failing {
			t.Errorf("call %d fails: %v, after %v", failing, err, at)
		}
		b.consistent(phases.Grace)
	}
	at, fenced, failing = nil, nil, 0
	ctl.FenceBudget = time.Nanosecond
	_, err := ctl.Advance(b.ctx, fenceGates())
	if h, _ := hint.Of(err); err == nil || !strings.Contains(err.Error(), "legacy was not fenced") || !strings.Contains(h.Text, "an index on each column") {
		t.Errorf("a budget that it does not keep: %v, hint %v", err, h)
	}
	b.consistent(phases.Grace)

	at, fenced, ctl.FenceBudget = nil, nil, time.Minute
	_, err = ctl.Advance(b.ctx, fenceGates())
	b.check(err)
	b.consistent(phases.Retain)
	if want := []phases.Phase{phases.Grace, phases.Fenced}; !slices.Equal(at, want) || !slices.Equal(fenced, []bool{false, true}) {
		t.Errorf("called in %v, fenced: %v", at, fenced)
	}

	// Complete: before the step, and neither in a dry run nor if the step is refused.
	at = nil
	ctl.Settings.Retain.For = phases.Duration(time.Hour)
	var closed *control.GatesClosedError
	if _, err = ctl.Advance(b.ctx, control.Advance{}); !errors.As(err, &closed) || len(at) != 0 {
		t.Errorf("a gate is closed: %v, called in %v", err, at)
	}
	b.consistent(phases.Retain)
	ctl.Settings.Retain.For = 0
	_, err = ctl.Advance(b.ctx, control.Advance{DryRun: true})
	b.check(err)
	if len(at) != 0 {
		t.Errorf("a dry run called it in %v", at)
	}
	_, err = ctl.Advance(b.ctx, control.Advance{})
	b.check(err)
	if want := []phases.Phase{phases.Retain}; !slices.Equal(at, want) {
		t.Errorf("called in %v", at)
	}
}
