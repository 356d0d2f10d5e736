package control

import (
	"context"
	"fmt"
	"time"

	"github.com/stranglerfig/migrator/internal/failpoint"
	"github.com/stranglerfig/migrator/internal/humanize"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// roundMargin is added to the wait of a round: clocks are read over a network.
const roundMargin = 250 * time.Millisecond

// copyRounds copies what the target has of the journalled keys to legacy while the application
// writes, until few are left or no round brings them closer. Then writes need to wait for these
// alone. A round writes nothing to the target, and removes nothing from the journal: legacy may
// still lose its copies.
func (c *Controller) copyRounds(ctx context.Context, st phases.Status) (err error) {
	last := c.LastRound
	if last == 0 {
		last = phases.LastRound
	}
	if st.ReturnRest <= last {
		return nil
	}
	run, err := c.beginRun(ctx, st.Route, st.Attempt)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			// [replay-run]: given up: what of this run is still under way must not land.
			undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), phases.UndoWithin)
			defer cancel()
			_, _ = c.Legacy.BeginReplay(undo, st.Attempt)
		}
	}()
	for rest := st.ReturnRest; ; {
		if err := c.round(ctx, st.Route, run, rest); err != nil {
			return err
		}
		failpoint.Here("control.return.round")
		e, err := c.State.Snapshot(ctx, c.Migration)
		if err != nil {
			return err
		}
		left := e.Status.ReturnRest
		c.report("%s left to copy", humanize.Counted(left, "key"))
		// What is left was written during the round, or is refused for now.
		if left <= last || left > rest/2 {
			return nil
		}
		rest = left
	}
}

// round copies the keys that have not changed since it began.
func (c *Controller) round(ctx context.Context, at phases.Route, run store.ReplayRun, rest int64) error {
	// [return-marks]: a change up to this number began before the target's clock is read here, so
	// its write, and each further try of it, ends with the wait: what is read then stays, unless the
	// key is listed again under a higher number.
	newest, err := c.State.NewestChange(ctx, c.Migration)
	if err != nil {
		return err
	}
	if err := c.awaitLate(ctx); err != nil {
		return err
	}
	// All changes up to a number of a page are marked at once: one of them that is committed only now,
	// in a slow transaction, is of a write that is refused as too late.
	began, copied, read := time.Now(), 0, 0
	defer func() { c.noteRate(ctx, copied, time.Since(began)) }()
	for {
		keys, err := c.State.ReturnRest(ctx, c.Migration, newest, returnBatch)
		if err != nil || len(keys) == 0 {
			return err
		}
		n, err := c.copyKeys(ctx, at, run, keys)
		if err != nil {
			return err
		}
		failpoint.Here("control.return.marked")
		copied += n
		if read += len(keys); read%(20*returnBatch) == 0 {
			c.report("copied %d of %d keys to legacy; writes continue", copied, rest)
		}
	}
}

// awaitLate waits until the target refuses every write that was listed before, as too late.
func (c *Controller) awaitLate(ctx context.Context) error {
	now, err := c.Target.Now(ctx)
	if err != nil {
		return err
	}
	for until := now.Add(orDefault(c.NotAfter, phases.NotAfter) + roundMargin); now.Before(until); {
		c.report("waiting %s for writes that are under way", until.Sub(now).Round(time.Millisecond))
		wait := time.NewTimer(until.Sub(now))
		select {
		case <-ctx.Done():
			wait.Stop()
			return ctx.Err()
		case <-wait.C:
		}
		if now, err = c.Target.Now(ctx); err != nil {
			return err
		}
	}
	return nil
}

// copyKeys copies keys to legacy and marks them. What the target has lost, or legacy refuses for now,
// stays unmarked.
func (c *Controller) copyKeys(ctx context.Context, at phases.Route, run store.ReplayRun, keys []store.ReturnKey) (int, error) {
	names := namesOf(keys)
	entries, notCopied, err := c.splitLost(ctx, names)
	if err != nil {
		return 0, err
	}
	rows, err := c.rowsOf(ctx, entries)
	if err != nil {
		return 0, err
	}
	done, err := c.Legacy.Replay(ctx, run, rows)
	if err != nil {
		return 0, err
	}
	failpoint.Here("control.return.copied")
	for _, r := range done.Refused {
		notCopied = append(notCopied, r.Key)
	}
	if err := c.markCopied(ctx, c.Migration, at, run.Legacy, keys[len(keys)-1].Change, notCopied); err != nil {
		return 0, err
	}
	return len(done.Rows), nil
}

// markCopied marks keys as copied. [return-beat]: what was read just now counts only if the target is
// whole after it: one that went back gives older states, which legacy must not keep as the newest.
func (c *Controller) markCopied(ctx context.Context, migration string, at phases.Route, legacy string, upTo int64, notCopied []record.Key) error {
	if err := c.isWhole(ctx); err != nil {
		return fmt.Errorf("copies of the target are not counted: %w", err)
	}
	return c.State.MarkCopied(ctx, migration, at, legacy, upTo, notCopied)
}

func (c *Controller) isWhole(ctx context.Context) error {
	if c.Whole != nil {
		return c.Whole(ctx)
	}
	return nil
}

func namesOf(keys []store.ReturnKey) []record.Key {
	names := make([]record.Key, len(keys))
	for i, k := range keys {
		names[i] = k.Key
	}
	return names
}

// noteRate records how fast keys were copied, for the estimate of the next stop.
func (c *Controller) noteRate(ctx context.Context, keys int, took time.Duration) {
	if keys > 0 && took > 0 {
		_ = c.State.NoteReturnRate(ctx, c.Migration, float64(keys)/took.Seconds()) // an estimate is worth no failure
	}
}
