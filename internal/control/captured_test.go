package control_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/internal/capture"
	"github.com/stranglerfig/migrator/internal/control"
	"github.com/stranglerfig/migrator/internal/state/captures"
	"github.com/stranglerfig/migrator/phases"
)

// saved is what the process that captures has saved and reported.
func (b *bench) saved(p capture.Progress) {
	b.t.Helper()
	ledger := captures.New(b.state.Pool(), "items", b.state.MarkUnclean)
	_, release, err := ledger.Begin(b.ctx)
	b.check(err)
	defer release()
	b.check(ledger.Save(b.ctx, p))
	b.check(ledger.Report(b.ctx, phases.Capture{Running: true}))
}

// TestRetainWaitsForCapture until it has passed this attempt's fence, with no sweep left; what it finds on the way
// counts.
func TestRetainWaitsForCapture(t *testing.T) {
	t.Parallel()
	before := capture.Progress{Slot: "slot", Era: 1}
	passed := func(attempt string) capture.Progress { return capture.Progress{Slot: "slot", Era: 2, Fence: attempt} }
	for what, c := range map[string]struct {
		meets func(b *bench, attempt string)
		says  string // "": it is passed
	}{
		"it passes":         {func(b *bench, attempt string) { b.saved(passed(attempt)) }, ""},
		"it does not":       {func(*bench, string) {}, "it has not passed the fence"},
		"another attempt's": {func(b *bench, _ string) { b.saved(passed("another")) }, "it has not passed the fence"},
		"changes are missing": {func(b *bench, a string) {
			b.saved(passed(a))
			_, err := b.state.LoseCapture(b.ctx, "items", "gone")
			b.check(err)
		}, "gone"},
		"a sweep is left": {func(b *bench, attempt string) {
			p := passed(attempt)
			p.Sweeps = []capture.Sweep{{Opens: time.Now()}}
			b.saved(p)
		}, "TRUNCATE"},
		"it marks the migration": {func(b *bench, attempt string) {
			b.check(b.state.MarkUnclean(b.ctx, "items", "legacy's table was truncated"))
			b.saved(passed(attempt))
		}, "legacy's table was truncated"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			b := atGrace(t)
			b.saved(before)
			ctl := b.controller()
			ctl.Settings.Capture = phases.CaptureOnly
			ctl.FenceBudget = 3 * time.Second
			ctl.Legacy = interferedFence{Legacy: b.legacy, raised: func() {
				attempt, _, err := b.legacy.FenceState(b.ctx)
				b.check(err)
				c.meets(b, attempt)
			}}
			step, err := ctl.Advance(b.ctx, fenceGates())
			if c.says == "" {
				b.check(err)
				b.consistent(phases.Retain)
				return
			}
			var refused *phases.CaptureError
			if step.Done || !errors.As(err, &refused) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%+v, %v: want %q", step, err, c.says)
			}
			b.neverInRetain()
			b.consistent(phases.Grace)
		})
	}
}

// TestAReturnNeedsASlot: what legacy takes once the fence is lifted must be captured.
func TestAReturnNeedsASlot(t *testing.T) {
	t.Parallel()
	b := atGrace(t)
	ctl := b.controller()
	_, err := ctl.Advance(b.ctx, fenceGates())
	b.check(err)
	ctl.Settings.Capture = phases.CaptureOnly
	b.saved(capture.Progress{})
	var refused *phases.CaptureError
	if made, err := ctl.Rollback(b.ctx, control.Rollback{Reason: "test"}); !errors.As(err, &refused) || len(made) != 0 {
		t.Errorf("without a slot: %v, %v", made, err)
	}
	b.consistent(phases.Retain)
	b.saved(capture.Progress{Slot: "slot"})
	_, err = ctl.Rollback(b.ctx, control.Rollback{Reason: "test"})
	b.check(err)
	b.consistent(phases.Grace)
}

// TestWaitingForCaptureEnds with its context.
func TestWaitingForCaptureEnds(t *testing.T) {
	t.Parallel()
	b := atGrace(t)
	b.saved(capture.Progress{Slot: "slot", Era: 1})
	ctl := b.controller()
	ctl.Settings.Capture = phases.CaptureBeside
	ctx, cancel := context.WithCancel(b.ctx)
	ctl.Report = func(what string) {
		if strings.Contains(what, "past the fence") {
			cancel()
		}
	}
	if _, err := ctl.Advance(ctx, fenceGates()); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	b.consistent(phases.Grace)
}
