package daemon

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/stranglerfig/migrator/internal/app"
	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/logs"
	"github.com/stranglerfig/migrator/internal/sleep"
	"github.com/stranglerfig/migrator/internal/statedb"
	"github.com/stranglerfig/migrator/phases"
)

// Reentry makes the target right again after changes of legacy were lost to capture: a backfill behind another
// barrier, then a full reconcile that repairs. Only the leader runs it; the next one resumes.
type Reentry struct {
	Migration string
	State     State
	Mode      func(ctx context.Context) (phases.CaptureMode, error) // of the applied migration file
	Open      func(ctx context.Context) (*app.Job, error)
	Poll      time.Duration // how often the state is read; 0: 5 s
	Log       *slog.Logger  // nil: discarded
}

const reentryPoll = 5 * time.Second

// Run works until ctx ends, and then returns nil.
func (r *Reentry) Run(ctx context.Context) error {
	log := logs.OrDiscard(r.Log).With("migration", r.Migration)
	lastFailure := ""
	for ctx.Err() == nil {
		did, err := r.once(ctx, log)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && err.Error() != lastFailure:
			log.Warn("making up for what was lost to change capture failed", "error", err, hint.Attr(err))
			lastFailure = err.Error()
		case err == nil:
			lastFailure = ""
		}
		if did != "" {
			log.Info("made up for what was lost to change capture", "did", did)
		}
		if sleep.For(ctx, cmp.Or(r.Poll, reentryPoll)) != nil {
			break
		}
	}
	return nil
}

func (r *Reentry) once(ctx context.Context, log *slog.Logger) (did string, err error) {
	e, err := r.State.Snapshot(ctx, r.Migration)
	if errors.Is(err, statedb.ErrUnknownMigration) {
		return "", nil
	}
	if err != nil || e.Capture == nil || e.Capture.LostAt.IsZero() {
		return "", err
	}
	mode, err := r.Mode(ctx)
	if err != nil || phases.Reentry(phases.Settings{Capture: mode}, e) == phases.NotReentering {
		return "", err
	}
	job, err := r.Open(ctx)
	if err != nil {
		return "", err
	}
	defer job.CloseStores()
	// [mark-checked]: nothing is copied to another server in the place of the target.
	if err := job.CheckTarget(ctx); err != nil {
		return "", err
	}
	return job.Reenter(ctx, log)
}
