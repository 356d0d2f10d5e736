package postgres

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/store"
)

// incarnation changes when the server may have lost commits or went back to an older state: the mark
// is gone after a crash, on a promoted standby and in a restored backup, and a copy of the files is started
// at another time. NULL: there is no mark.
const incarnation = `(SELECT pg_postmaster_start_time()::text || ' ' || a.incarnation FROM ` + legacyAlive + ` a WHERE a.name = $1)`

// BeginReplay implements store.Fence.
func (l *Legacy) BeginReplay(ctx context.Context, attempt string) (store.ReplayRun, error) {
	run := store.ReplayRun{Attempt: attempt}
	err := inTx(ctx, l.pool, pgx.ReadWrite, func(tx pgx.Tx) error {
		if err := setLockTimeout(ctx, tx, tableLockTimeout); err != nil {
			return err
		}
		// [replay-run]: under the lock that every copy takes: none of an earlier run commits later.
		if err := l.checkAttempt(ctx, tx, attempt, " FOR UPDATE"); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "INSERT INTO "+legacyAlive+" (name, incarnation) VALUES ($1, $2) ON CONFLICT DO NOTHING", l.name, rand.Text()); err != nil {
			return err
		}
		return tx.QueryRow(ctx, "UPDATE migrator_legacy.migration SET run = run + 1 WHERE name = $1 RETURNING run, "+incarnation, l.name).Scan(&run.Number, &run.Legacy)
	})
	if err != nil {
		return run, fmt.Errorf("begin to write back to legacy table %s: %w", l.table(), l.explainLock(ctx, asNotInstalled(err)))
	}
	return run, nil
}

// checkAttempt refuses a fence that is not the attempt's, or not whole. lock is "" or " FOR UPDATE".
func (l *Legacy) checkAttempt(ctx context.Context, tx pgx.Tx, attempt, lock string) error {
	f, err := l.fence(ctx, tx, lock)
	if err != nil {
		return err
	}
	if f.attempt != attempt || attempt == "" {
		return fmt.Errorf("the fence is not of attempt %q but of %q", attempt, f.attempt)
	}
	// [fence-watched]: the row may be there without the triggers: then legacy takes other writes,
	// which the replay would overwrite.
	if gaps, err := l.fenceGaps(ctx, tx, attempt); err != nil {
		return err
	} else if gaps != "" {
		return fmt.Errorf("the fence is not whole: %s", gaps)
	}
	return nil
}

// checkRun requires the newest run of the attempt whose fence stands, and the same legacy as when
// it began, under the lock of the fence's row.
func (l *Legacy) checkRun(ctx context.Context, tx pgx.Tx, run store.ReplayRun) error {
	if err := l.checkAttempt(ctx, tx, run.Attempt, " FOR UPDATE"); err != nil {
		return err
	}
	var number int64
	var now *string
	err := tx.QueryRow(ctx, "SELECT run, "+incarnation+" FROM migrator_legacy.migration WHERE name = $1", l.name).Scan(&number, &now)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return errNotInstalled
	case err != nil:
		return err
	// [replay-run]: a process that wakes late must not overwrite a newer copy by an older one.
	case number != run.Number:
		return hint.Errorf(hint.Hint{Do: hint.Status}, "another command continues the return (run %d, this is run %d)", number, run.Number)
	// [replay-legacy]: copies that count as made may be gone.
	case now == nil || *now != run.Legacy:
		return hint.Errorf(hint.Hint{Do: hint.Retry}, "legacy has been restarted or replaced since run %d began: copies may be gone", run.Number)
	}
	return nil
}

// EndReplay implements store.Fence. [replay-run], [replay-legacy]: a controller that wakes late does
// not lift the fence of a return that was given up, and no fence is lifted over copies that are gone.
func (l *Legacy) EndReplay(ctx context.Context, run store.ReplayRun, timeout time.Duration) (uint32, error) {
	return l.lift(ctx, run.Attempt, timeout, func(tx pgx.Tx) error { return l.checkRun(ctx, tx, run) })
}

// FirstEra implements store.Fence.
func (l *Legacy) FirstEra(ctx context.Context) (uint32, error) {
	f, err := l.fence(ctx, l.pool, "")
	if err != nil {
		return 0, fmt.Errorf("read the fence of legacy table %s: %w", l.table(), err)
	}
	return f.first, nil
}

// RenewFence implements store.Fence.
func (l *Legacy) RenewFence(ctx context.Context, attempt string) (uint32, error) {
	var era uint32
	err := inTx(ctx, l.pool, pgx.ReadWrite, func(tx pgx.Tx) error {
		if err := setLockTimeout(ctx, tx, tableLockTimeout); err != nil {
			return err
		}
		// Its commit must not be lost: writes of retain will carry the new era.
		if _, err := tx.Exec(ctx, "SET LOCAL synchronous_commit = on"); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", advisoryName(l.name)); err != nil {
			return err
		}
		if over, err := l.isOver(ctx, tx, attempt); err != nil {
			return err
		} else if over {
			return fmt.Errorf("attempt %s: %w", attempt, store.ErrAttemptOver)
		}
		f, err := l.fence(ctx, tx, " FOR UPDATE")
		if err != nil {
			return err
		}
		if f.attempt != attempt || attempt == "" {
			return fmt.Errorf("the fence is not of attempt %q but of %q", attempt, f.attempt)
		}
		// [return-given-up]: the last run may have written some keys to the target at the era after the
		// fence's. The run ends in the same transaction: a copy that wakes late is refused.
		if era, err = l.startEra(ctx, tx, f.era); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, "UPDATE migrator_legacy.migration SET fence_era = $2, first_era = $3, run = run + 1 WHERE name = $1", l.name, int64(era), int64(f.first))
		if err != nil {
			return err
		}
		return l.mark(ctx, tx, Marker{Kind: MarkFence, Era: era, Attempt: attempt})
	})
	if err == nil {
		err = l.awaitStandbys(ctx, tableLockTimeout, false)
	}
	if err != nil {
		return 0, fmt.Errorf("renew the fence of legacy table %s: %w", l.table(), l.explainLock(ctx, asNotInstalled(err)))
	}
	return era, nil
}
