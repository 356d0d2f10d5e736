package app

import (
	"context"
	"errors"
	"time"

	"github.com/stranglerfig/migrator/internal/capture"
	"github.com/stranglerfig/migrator/internal/state/captures"
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
	return c, ledger, nil
}

// LoseCapture records that changes are missing to change capture, if err is such an error: the migration is
// marked unclean, and capture stands until ForgetCapture.
func (j *Job) LoseCapture(ctx context.Context, err error) (lost bool, failed error) {
	if _, lost = errors.AsType[*capture.LostError](err); !lost {
		return false, nil
	}
	return true, j.State.LoseCapture(ctx, j.Config.Name, err.Error())
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
