package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/stranglerfig/migrator/internal/backfill"
	"github.com/stranglerfig/migrator/internal/capture"
	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/humanize"
	"github.com/stranglerfig/migrator/internal/sleep"
	"github.com/stranglerfig/migrator/internal/state/captures"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/reconcile"
	"github.com/stranglerfig/migrator/record"
)

// Capture assembles the migration's change capture, by the settings of the job's file, and its ledger.
func (j *Job) Capture() (*capture.Capture, *captures.Ledger, error) {
	ledger := captures.New(j.State.Pool(), j.Config.Name, j.State.MarkUnclean)
	c, err := capture.Open(j.Legacy, j.Target, ledger)
	if err != nil {
		return nil, nil, err
	}
	s := j.Config.Capture
	c.OnAhead, c.NotAfter = j.markAhead, time.Duration(j.Config.Writing.NotAfter)
	c.Workers, c.Beat, c.MaxHeld, c.MaxShare = s.Workers, time.Duration(s.Beat), int64(s.MaxHeld), s.MaxShare.Ratio()
	c.Throttle = j.Throttle(CaptureRate)
	return c, ledger, nil
}

// LoseCapture records that changes are missing to change capture, if err is such an error: the migration is
// marked unclean, and backfills from before do not count. Reads return to legacy where capture alone writes the
// target.
func (j *Job) LoseCapture(ctx context.Context, err error) (lost bool, failed error) {
	gone, lost := errors.AsType[*capture.LostError](err)
	if !lost {
		return false, nil
	}
	// [capture-reentry]: recorded first: from then on what was brought counts for nothing, whatever comes next.
	_, failed = j.State.LoseCapture(ctx, j.Config.Name, gone.Error())
	if failed == nil {
		failed = j.readLegacyWithoutCapture(ctx, gone.Error())
	}
	return true, failed
}

// readLegacyWithoutCapture returns reads to legacy where nothing else brings its changes to the target.
func (j *Job) readLegacyWithoutCapture(ctx context.Context, why string) error {
	if j.Config.Capture.Mode != phases.CaptureOnly {
		return nil
	}
	return j.Controller(j.Config, nil).ReadLegacy(ctx, why)
}

// RestartCapture begins again after changes were lost: reads go back to legacy where that is needed, and the slot
// and the progress are removed. The next run of capture makes another slot.
func (j *Job) RestartCapture(ctx context.Context, why string) error {
	if err := j.readLegacyWithoutCapture(ctx, why); err != nil {
		return err
	}
	c, _, err := j.Capture()
	if err != nil {
		return err
	}
	return c.Forget(ctx)
}

// ForgetCapture removes the slot, the publication and the progress. If the migration is to be captured, the daemon
// makes new ones, and brings changes from behind the next backfill's barrier.
func (j *Job) ForgetCapture(ctx context.Context) error {
	c, _, err := j.Capture()
	if err != nil {
		return err
	}
	return c.Forget(ctx)
}

// capturePatience is how long a process that captures may not have reported: another one may be about to lead.
const capturePatience = 2 * time.Minute

// captureProgress reads how far capture has come; an error if there is no slot, or nothing captures.
func (j *Job) captureProgress(ctx context.Context, ledger *captures.Ledger) (capture.Progress, error) {
	e, err := j.State.Snapshot(ctx, j.Config.Name)
	if err != nil {
		return capture.Progress{}, err
	}
	c, serve := e.Capture, hint.Hint{Do: hint.Serve, Text: "which captures"}
	switch {
	case c != nil && c.Slot == "" && c.Error != "" && e.Now.Sub(c.Reported) <= capturePatience:
		return capture.Progress{}, hint.Errorf(serve, "changes of legacy are not captured: there is no replication slot yet: %s", c.Error)
	case c == nil || c.Slot == "" || c.Lost != "":
		return capture.Progress{}, hint.Errorf(serve, "changes of legacy are not captured: there is no replication slot yet")
	case e.Now.Sub(c.Reported) > capturePatience:
		return capture.Progress{}, hint.Errorf(serve, "changes of legacy are not captured: no process has reported since %s", c.Reported.UTC().Format(time.RFC3339))
	}
	return ledger.Load(ctx)
}

// captured is what a backfill waits for: see backfill.Backfill.Captured. nil: changes are not captured.
func (j *Job) captured() func(context.Context) (record.Version, error) {
	if !j.Config.Capture.Mode.On() {
		return nil
	}
	ledger := captures.New(j.State.Pool(), j.Config.Name, j.State.MarkUnclean)
	return func(ctx context.Context) (record.Version, error) {
		p, err := j.captureProgress(ctx, ledger)
		return p.Barrier, err
	}
}

// capturePoll is how often it is looked how far capture has come.
const capturePoll = 200 * time.Millisecond

// captureCaughtUp waits until the target has all that legacy had committed when it was called, as far as capture
// brings it. Where nothing is captured there is nothing to wait for.
func (j *Job) captureCaughtUp(ctx context.Context) error {
	if st, err := j.State.Status(ctx, j.Config.Name); err != nil || !st.Route.Phase.Captured() {
		return err
	}
	c, ledger, err := j.Capture()
	if err != nil {
		return err
	}
	// Before the marker: without a slot there is none.
	if _, err := j.captureProgress(ctx, ledger); err != nil {
		return err
	}
	passed, err := c.Mark(ctx)
	if err != nil {
		return err
	}
	for {
		p, err := j.captureProgress(ctx, ledger)
		if err != nil || passed(p) {
			return err
		}
		if err := sleep.For(ctx, capturePoll); err != nil {
			return err
		}
	}
}

// Reenter takes the next step of what is left to do after changes were lost to capture, and returns what it did;
// "": there is nothing to do, or it is to be awaited. Each step resumes one that was interrupted.
func (j *Job) Reenter(ctx context.Context, log *slog.Logger) (did string, err error) {
	e, err := j.State.Snapshot(ctx, j.Config.Name)
	if err != nil {
		return "", err
	}
	switch phases.Reentry(j.Config.Settings(), e) {
	case phases.ReenterReads:
		return "", j.readLegacyWithoutCapture(ctx, "changes of legacy were lost to capture")
	case phases.ReenterBackfill:
		done, err := j.Backfill(ctx, Backfill{})
		if errors.Is(err, backfill.ErrRunning) { // an operator's, or a former leader's
			return "", nil
		}
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("copied %s rows again", humanize.Count(done.Rows)), nil
	case phases.ReenterReconcile:
		o := Reconcile{RunOptions: reconcile.RunOptions{Full: true, TwoWay: true, Repair: true}, Log: log}
		if o.Resume, err = j.Interrupted(ctx, o.RunOptions, true); err != nil {
			return "", err
		}
		run, _, err := j.Reconcile(ctx, o)
		if errors.Is(err, reconcile.ErrRunning) {
			return "", nil
		}
		if err != nil {
			return "", err
		}
		return RunSummary(j.Config.Name, run), nil
	}
	return "", nil
}
