package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/internal/failpoint"
	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/store"
)

// fenceRow is the state of the migration's fence in the legacy database.
type fenceRow struct {
	attempt string // "" for none
	era     uint32 // the fence's, or the current one if there is no fence
	first   uint32 // in which the attempt fenced first; 0 if there is no fence
}

// fence reads the row; lock is "" or " FOR UPDATE".
func (l *Legacy) fence(ctx context.Context, db rowQuerier, lock string) (fenceRow, error) {
	var f fenceRow
	var era, first int64
	err := db.QueryRow(ctx, `SELECT coalesce(attempt, ''), coalesce(fence_era, (SELECT last_value FROM `+l.era()+`)), coalesce(first_era, fence_era, 0)
		FROM migrator_legacy.migration WHERE name = $1`+lock, l.name).Scan(&f.attempt, &era, &first)
	if errors.Is(err, pgx.ErrNoRows) {
		return f, errNotInstalled
	}
	f.era, f.first = uint32(era), uint32(first)
	return f, asNotInstalled(err)
}

// FenceState implements store.Fence.
func (l *Legacy) FenceState(ctx context.Context) (attempt string, era uint32, err error) {
	f, err := l.fence(ctx, l.pool, "")
	if err != nil {
		err = fmt.Errorf("read the fence of legacy table %s: %w", l.table(), err)
	}
	return f.attempt, f.era, err
}

// RaiseFence implements store.Fence. An attempt whose fence was lifted can't raise it
// again: a controller that was suspended meanwhile must not leave legacy fenced.
// RaiseFence returns only when every standby that is expected, and every other one that streams,
// has the fence, since a standby that is promoted without it would accept writes.
func (l *Legacy) RaiseFence(ctx context.Context, attempt string, timeout time.Duration) (uint32, error) {
	if attempt == "" {
		return 0, fmt.Errorf("a fence needs an attempt's id")
	}
	deadline := time.Now().Add(timeout)
	// [fence-standbys]: before the table is locked, so that no write waits for a standby that is away.
	if err := l.refuseAway(ctx); err != nil {
		return 0, fmt.Errorf("fence legacy table %s: %w", l.table(), err)
	}
	var era uint32
	// [fence-lock]: a writer that has locked the table commits before the fence does; a writer
	// that waits for the fence's lock meets the triggers.
	err := l.locked(ctx, timeout, "SHARE ROW EXCLUSIVE", func(tx pgx.Tx) error {
		f, err := l.fence(ctx, tx, " FOR UPDATE")
		if err != nil {
			return err
		}
		if err := l.refuseSharing(ctx, tx); err != nil {
			return err
		}
		// [one-decides]: two attempts can't both hold the fence.
		if f.attempt != "" && f.attempt != attempt {
			return fmt.Errorf("attempt %s has fenced it already", f.attempt)
		}
		if err := durably(ctx, tx); err != nil {
			return err
		}
		over, err := l.isOver(ctx, tx, attempt)
		if err != nil {
			return err
		}
		// [attempt-void]: the attempt may have been rolled back; legacy would stay fenced under a
		// route that writes to it.
		if over {
			return hint.Errorf(hint.Hint{Do: hint.Advance, Text: "which begins a new attempt"}, "attempt %s: %w", attempt, store.ErrAttemptOver)
		}
		era = f.era
		if f.attempt == "" {
			// [fence-era]: in the transaction that creates the triggers; if that is rolled back, the era
			// is skipped, which is harmless.
			if era, err = l.startEra(ctx, tx, 0); err != nil {
				return err
			}
			failpoint.Here("postgres.fence.era") // a rollback of the transaction does not undo it
		}
		// [fence-whole]: rows, every partition, TRUNCATE.
		if err := l.placeFence(ctx, tx, attempt); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `UPDATE migrator_legacy.migration SET attempt = $2, fence_era = $3, fenced_at = coalesce(fenced_at, clock_timestamp()),
			first_era = CASE WHEN attempt = $2 THEN coalesce(first_era, $3) ELSE $3 END WHERE name = $1`, l.name, attempt, int64(era))
		if err != nil {
			return err
		}
		return l.mark(ctx, tx, Marker{Kind: MarkFence, Era: era, Attempt: attempt})
	})
	if err == nil {
		failpoint.Here("postgres.fence.committed")
		// [fence-standbys]: a standby that is promoted without the triggers takes writes.
		if err = l.awaitStandbys(ctx, max(time.Until(deadline), time.Second), true); err != nil {
			err = errStandbys(err)
		}
	}
	if err != nil {
		return 0, fmt.Errorf("fence legacy table %s: %w", l.table(), err)
	}
	return era, nil
}

// FenceGaps implements store.Fence. The row that names the attempt is not enough: logical
// replication and a dump of one schema copy it without the triggers.
func (l *Legacy) FenceGaps(ctx context.Context, attempt string) (string, error) {
	f, err := l.fence(ctx, l.pool, "")
	if err != nil {
		return "", fmt.Errorf("read the fence of legacy table %s: %w", l.table(), err)
	}
	switch f.attempt {
	case attempt:
	case "":
		over, err := l.isOver(ctx, l.pool, attempt)
		if err == nil && over {
			err = fmt.Errorf("attempt %s: %w", attempt, store.ErrAttemptOver)
		}
		return "there is no fence", err
	default:
		return "the fence is of attempt " + f.attempt, nil
	}
	gaps, err := l.fenceGaps(ctx, l.pool, attempt)
	if err != nil {
		return "", fmt.Errorf("read the fence's triggers of legacy table %s: %w", l.table(), err)
	}
	return gaps, nil
}

func (l *Legacy) fenceGaps(ctx context.Context, db rowQuerier, attempt string) (gaps string, err error) {
	// [fence-watched]: a trigger that is disabled, or enabled for ordinary sessions alone, is a gap.
	err = db.QueryRow(ctx, `
		SELECT coalesce(string_agg(format('%I.%I %s', n.nspname, c.relname, k.what), ', ' ORDER BY c.oid, k.what), '')
		FROM (SELECT $1::oid AS oid UNION SELECT relid::oid FROM pg_partition_tree($1::oid::regclass)) AS tree
		JOIN pg_class c ON c.oid = tree.oid JOIN pg_namespace n ON n.oid = c.relnamespace
		CROSS JOIN (VALUES ('takes rows', $2::text), ('takes TRUNCATE', $2::text || '_t')) AS k (what, name)
		WHERE NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid AND t.tgname::text = k.name AND t.tgenabled = 'A')`,
		l.shape.oid, fenceName(l.name, attempt)).Scan(&gaps)
	return gaps, err
}

// RestoreFence implements store.Fence.
func (l *Legacy) RestoreFence(ctx context.Context, attempt string, first, era uint32, timeout time.Duration) error {
	if attempt == "" || era == 0 || first > era {
		return fmt.Errorf("a fence needs an attempt's id and an era")
	}
	deadline := time.Now().Add(timeout)
	err := l.locked(ctx, timeout, "SHARE ROW EXCLUSIVE", func(tx pgx.Tx) error {
		f, err := l.fence(ctx, tx, " FOR UPDATE")
		if err != nil {
			return err
		}
		// [one-decides]: two attempts can't both hold the fence.
		if f.attempt != "" && f.attempt != attempt {
			return fmt.Errorf("attempt %s has fenced it", f.attempt)
		}
		if err := durably(ctx, tx); err != nil {
			return err
		}
		// [attempt-void]: it was lifted: to raise it again would fence legacy under a route that
		// writes to it.
		if over, err := l.isOver(ctx, tx, attempt); err != nil {
			return err
		} else if over {
			return fmt.Errorf("attempt %s: %w", attempt, store.ErrAttemptOver)
		}
		var last int64
		if err := tx.QueryRow(ctx, "SELECT last_value FROM "+l.era()).Scan(&last); err != nil {
			return err
		}
		// [fence-restored]: the fence's own era, never a later one: what repair reads from fenced
		// legacy would be newer than the writes of retain.
		if f.attempt == "" && last < int64(era) {
			if _, err := tx.Exec(ctx, "SELECT setval($1::text::regclass, $2, true)", l.era(), int64(era)); err != nil {
				return err
			}
		}
		if err := l.placeFence(ctx, tx, attempt); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `UPDATE migrator_legacy.migration SET attempt = $2, fence_era = greatest(fence_era, $3), first_era = coalesce(nullif($4::int8, 0), $3), fenced_at = coalesce(fenced_at, clock_timestamp()) WHERE name = $1`,
			l.name, attempt, int64(era), int64(first))
		if err != nil {
			return err
		}
		return l.mark(ctx, tx, Marker{Kind: MarkFence, Era: era, Attempt: attempt})
	})
	if err == nil {
		// Not for those that are away: after a failover the former primary is one. Promoted again, it
		// is found without the fence.
		if err = l.awaitStandbys(ctx, max(time.Until(deadline), time.Second), false); err != nil {
			err = errStandbys(err)
		}
	}
	if err != nil {
		return fmt.Errorf("restore the fence of legacy table %s: %w", l.table(), err)
	}
	return nil
}

func (l *Legacy) isOver(ctx context.Context, db rowQuerier, attempt string) (over bool, err error) {
	err = db.QueryRow(ctx, "SELECT EXISTS (SELECT FROM migrator_legacy.lifted WHERE name = $1 AND attempt = $2)", l.name, attempt).Scan(&over)
	return over, err
}

// VoidFence implements store.Fence. RaiseFence checks the row in lifted under the lock
// of the same row of migration, once it has locked the table.
func (l *Legacy) VoidFence(ctx context.Context, attempt string) (voided bool, err error) {
	err = inTx(ctx, l.pool, pgx.ReadWrite, func(tx pgx.Tx) error {
		f, err := l.fence(ctx, tx, " FOR UPDATE")
		if err != nil || f.attempt == attempt {
			return err
		}
		voided = true
		// [attempt-void]: under the lock of the row that RaiseFence takes before it checks lifted.
		return l.recordEnded(ctx, tx, attempt)
	})
	if err != nil {
		return false, fmt.Errorf("void the fence of legacy table %s: %w", l.table(), err)
	}
	return voided, nil
}

// recordEnded records that the attempt has ended.
func (l *Legacy) recordEnded(ctx context.Context, tx pgx.Tx, attempt string) error {
	_, err := tx.Exec(ctx, "INSERT INTO migrator_legacy.lifted (name, attempt) VALUES ($1, $2) ON CONFLICT DO NOTHING", l.name, attempt)
	return err
}

// LiftFence implements store.Fence. It does not wait for readers: it disables the
// triggers, and drops them only if the lock for that is free.
func (l *Legacy) LiftFence(ctx context.Context, attempt string, timeout time.Duration) (uint32, error) {
	return l.lift(ctx, attempt, timeout, nil)
}

// lift lifts the fence if check, which is called with the fence's row locked, returns no error.
func (l *Legacy) lift(ctx context.Context, attempt string, timeout time.Duration, check func(pgx.Tx) error) (uint32, error) {
	if attempt == "" {
		return 0, fmt.Errorf("a fence needs an attempt's id")
	}
	var era uint32
	err := l.locked(ctx, timeout, "SHARE ROW EXCLUSIVE", func(tx pgx.Tx) error {
		f, err := l.fence(ctx, tx, " FOR UPDATE")
		if err != nil {
			return err
		}
		// [one-decides]: a controller that resumes late can't lift another attempt's fence.
		if f.attempt != "" && f.attempt != attempt {
			return fmt.Errorf("the fence is of attempt %s, not %s", f.attempt, attempt)
		}
		if check != nil {
			if err := check(tx); err != nil {
				return err
			}
		}
		// [attempt-void]: also if the fence is not raised: it must not be raised later.
		if err := l.recordEnded(ctx, tx, attempt); err != nil {
			return err
		}
		era = f.era
		if f.attempt == "" {
			return nil
		}
		if err := durably(ctx, tx); err != nil {
			return err
		}
		if err := l.disableFence(ctx, tx, attempt); err != nil {
			return err
		}
		// [lift-era], [return-era]: at least the era that Replay has assigned to the keys that it
		// wrote back.
		if era, err = l.startEra(ctx, tx, f.era); err != nil {
			return err
		}
		failpoint.Here("postgres.lift.era") // a rollback of the transaction does not undo it
		_, err = tx.Exec(ctx, "UPDATE migrator_legacy.migration SET attempt = NULL, fence_era = NULL, first_era = NULL, fenced_at = NULL WHERE name = $1", l.name)
		if err != nil {
			return err
		}
		return l.mark(ctx, tx, Marker{Kind: MarkLift, Era: era, Attempt: attempt})
	})
	if err != nil {
		return 0, fmt.Errorf("lift the fence of legacy table %s: %w", l.table(), err)
	}
	failpoint.Here("postgres.lift.committed")
	// A disabled trigger that is left refuses nothing.
	_ = inTx(ctx, l.pool, pgx.ReadWrite, func(tx pgx.Tx) error {
		if err := setLockTimeout(ctx, tx, 100*time.Millisecond); err != nil {
			return err
		}
		return l.dropFences(ctx, tx)
	})
	return era, nil
}
