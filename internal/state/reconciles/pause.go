package reconciles

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/internal/statedb"
	"github.com/stranglerfig/migrator/reconcile"
)

// errRunEnded ends a worker's job: no coordinator waits for the run's jobs any more.
var errRunEnded = errors.New("the run has ended")

// pausePoll is how often a process that works on a run reads whether the run is paused.
const pausePoll = 500 * time.Millisecond

// pauseState is what a process knows of a run that it works on.
type pauseState struct {
	mu      sync.Mutex
	checked time.Time
	sharers int
	paused  bool
}

// WaitWhilePaused implements reconcile.Jobs. It reads the run's status twice a second;
// while the state database does not answer, the last status read applies.
func (r *Runs) WaitWhilePaused(ctx context.Context, run int64) (int, error) {
	r.mu.Lock()
	if r.pauses == nil {
		r.pauses = map[int64]*pauseState{}
	}
	h := r.pauses[run]
	if h == nil {
		h = &pauseState{sharers: 1}
		r.pauses[run] = h
	}
	r.mu.Unlock()
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		if time.Since(h.checked) >= pausePoll {
			if err := r.checkPause(ctx, run, h); err != nil {
				return 0, err
			}
		}
		if !h.paused {
			return h.sharers, nil
		}
		if err := statedb.Sleep(ctx, pausePoll); err != nil {
			return 0, err
		}
	}
}

func (r *Runs) checkPause(ctx context.Context, run int64, h *pauseState) error {
	var status reconcile.Status
	var reason, by string
	var sharers int
	err := r.pool.QueryRow(ctx, `SELECT r.status, r.said, r.said_by, (SELECT count(DISTINCT worker) FROM migrator.reconcile_jobs
			WHERE run = r.id AND state = 'taken' AND beat_at > clock_timestamp() - make_interval(secs => (r.terms ->> 'lease')::bigint / 1e9))
		FROM migrator.reconcile_runs r WHERE r.migration = $1 AND r.id = $2`, r.migration, run).Scan(&status, &reason, &by, &sharers)
	h.checked = time.Now()
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return errRunEnded
	case err != nil:
		// An unreachable state database ends no pause and begins none.
		return nil //nolint:nilerr // the last status read applies
	}
	h.sharers = max(1, sharers)
	switch status {
	case reconcile.Cancelled:
		return fmt.Errorf("%w by %s", reconcile.ErrCancelled, describePause(reason, by))
	case reconcile.Done, reconcile.Stopped:
		return errRunEnded
	}
	if paused := status == reconcile.Paused; paused != h.paused {
		h.paused = paused
		if r.OnPause != nil && paused {
			r.OnPause(run, describePause(reason, by))
		} else if r.OnPause != nil {
			r.OnPause(run, "")
		}
	}
	return nil
}

func describePause(reason, by string) string {
	switch {
	case by == "":
		return reason
	case reason == "":
		return by
	}
	return by + ": " + reason
}
