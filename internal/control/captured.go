package control

import (
	"context"
	"time"

	"github.com/stranglerfig/migrator/phases"
)

// awaitCaptured waits until change capture has brought all that legacy committed before the attempt's fence.
//
// [capture-passed]: the fence's marker is behind every change that legacy let pass, and progress is saved after
// the target has what is before. What is still under way of a process that no longer captures is of a version
// that the target has, or an older one.
func (c *Controller) awaitCaptured(ctx context.Context, attempt string, budget time.Duration) error {
	if !c.Settings.Capture.On() {
		return nil
	}
	c.report("waiting until change capture is past the fence")
	deadline := time.Now().Add(budget)
	tick := time.NewTicker(orDefault(c.Poll, 50*time.Millisecond))
	defer tick.Stop()
	for {
		e, err := c.State.Snapshot(ctx, c.Migration)
		if err != nil {
			return err
		}
		if err = phases.CapturePassed(c.Settings, e, attempt); err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}
