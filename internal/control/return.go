package control

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/stranglerfig/migrator/internal/failpoint"
	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// MissingError stops a return from retain: of the keys to be replayed the target has lost some.
// Legacy still has older states of them.
type MissingError struct {
	At       phases.Route
	Keys     int64 // in the return journal
	Missing  int64 // of those, lost; at least, if the return had begun
	Accepted int64
}

func (e *MissingError) Error() string {
	text := fmt.Sprintf("the target has lost %d of the %d records that were written since the fence", e.Missing, e.Keys)
	if e.Accepted > 0 {
		text += fmt.Sprintf(" (%d are accepted)", e.Accepted)
	}
	if e.At.Phase == phases.Returning {
		return text + ": the return has stopped, and writes wait"
	}
	return text + ": nothing was rolled back, and legacy keeps its older states of them"
}

// Hint implements hint.Hinter.
func (e *MissingError) Hint() hint.Hint {
	return hint.Hint{Do: hint.AcceptMissing, Of: []string{fmt.Sprint(e.Missing)}, Text: "after trying to restore the target's data"}
}

const returnBatch = 500 // keys

// FenceLostError stops a return from retain: legacy had lost its fence, or a part of it, and may
// have taken writes that the target lacks. The fence stands again.
type FenceLostError struct {
	Gaps  string
	Parts string // how the table's parts have changed, where the fence itself was whole
}

func (e *FenceLostError) Error() string {
	if e.Parts != "" {
		return fmt.Sprintf("legacy's table has changed behind the fence (%s): what it has is not all that it had. Nothing was rolled back", e.Parts)
	}
	return fmt.Sprintf("legacy's fence was not whole (%s): legacy may have taken writes that the target lacks. The fence was raised again, and nothing was rolled back", e.Gaps)
}

// Hint implements hint.Hinter.
func (e *FenceLostError) Hint() hint.Hint {
	return hint.Hint{Do: hint.Retry, Text: "which rolls back to dual-read, once you have settled what doctor lists as taken by legacy; then compare both stores before you repair: a repair takes legacy's state"}
}

// checkFence refuses a return that would begin beside a legacy which takes writes. The second
// attempt is made: the fence is whole again, and the migration marked unclean.
func (c *Controller) checkFence(ctx context.Context, st phases.Status) error {
	gaps, err := c.restoreFence(ctx, st)
	if err == nil && gaps != "" {
		err = &FenceLostError{Gaps: gaps}
	}
	if err != nil {
		return err
	}
	// [parts-watched]: also where no daemon has looked.
	changes, lost, err := c.watchParts(ctx, st)
	if err == nil && lost {
		err = &FenceLostError{Parts: changes}
	}
	return err
}

// RestoreFence raises the fence again if legacy has lost it, or a part of it, while the route
// rests on it. It returns what was missing; "": nothing.
func (c *Controller) RestoreFence(ctx context.Context) (gaps string, err error) {
	e, err := c.State.Snapshot(ctx, c.Migration)
	if err != nil || e.Status.Attempt == "" || !e.Status.Route.Phase.Fenced() {
		return "", err
	}
	return c.restoreFence(ctx, e.Status)
}

func (c *Controller) restoreFence(ctx context.Context, st phases.Status) (gaps string, err error) {
	gaps, err = c.Legacy.FenceGaps(ctx, st.Attempt)
	if err != nil || gaps == "" {
		return "", err
	}
	// [store-unclean]: before the fence is whole again: after a crash in between nothing else would
	// show that legacy may have taken writes.
	if err := c.State.MarkUnclean(ctx, c.Migration, "legacy's fence was not whole ("+gaps+"): legacy may have taken writes that the target lacks"); err != nil {
		return gaps, err
	}
	// Before it is raised again, which writes the fence's row.
	if err := c.noteFence(ctx, st.Attempt, true); err != nil {
		return gaps, err
	}
	c.report("legacy's fence was not whole (%s); raising it again", gaps)
	// [fence-restored]: by the same attempt, at the fence's era.
	return gaps, c.Legacy.RestoreFence(ctx, st.Attempt, st.FenceEra, orDefault(c.LockTimeout, phases.LockTimeout))
}

// missing counts the keys of the return journal whose records the target has lost. It returns
// *MissingError if those are more than accepted.
func (c *Controller) missing(ctx context.Context, at phases.Route, accepted int64) (int64, error) {
	var all, lost int64
	for after := record.Key(""); ; {
		keys, err := c.State.ReturnKeys(ctx, c.Migration, after, returnBatch)
		if err != nil {
			return 0, err
		}
		if len(keys) == 0 {
			break
		}
		_, gone, err := c.splitLost(ctx, keys)
		if err != nil {
			return 0, err
		}
		all, lost, after = all+int64(len(keys)), lost+int64(len(gone)), keys[len(keys)-1]
		if after == "" { // the only key
			break
		}
	}
	// [return-lost]: before returning is committed: in retain reads and writes of all other records
	// continue.
	if lost > accepted {
		return lost, &MissingError{At: at, Keys: all, Missing: lost, Accepted: accepted}
	}
	return lost, nil
}

// splitLost separates the keys whose records the target has lost from the others: the target has
// not even a version, though a record that was deleted in retain keeps its version for good, and
// legacy has the record.
func (c *Controller) splitLost(ctx context.Context, keys []record.Key) (there, lost []record.Key, err error) {
	entries, err := c.Target.Get(ctx, keys)
	if err != nil {
		return nil, nil, fmt.Errorf("read the target: %w", err)
	}
	var absent []record.Key
	for _, e := range entries {
		if e.Presence == store.Absent {
			absent = append(absent, e.Key)
		} else {
			there = append(there, e.Key)
		}
	}
	unwritten, lost, err := c.lostOf(ctx, absent)
	return append(there, unwritten...), lost, err
}

// lostOf separates keys of which the target has nothing: those that legacy lacks too, listed and
// never written, and those that it has, which the target has lost.
func (c *Controller) lostOf(ctx context.Context, absent []record.Key) (unwritten, lost []record.Key, err error) {
	if len(absent) == 0 {
		return nil, nil, nil
	}
	rows, err := c.Legacy.Lookup(ctx, absent)
	if err != nil {
		return nil, nil, fmt.Errorf("look up what legacy has of %d keys that the target lacks: %w", len(absent), err)
	}
	for _, row := range rows {
		// [return-lost]: a record that has expired is not lost, though legacy still has its row.
		if row.Found && (c.Expired == nil || !c.Expired(row.Record)) {
			lost = append(lost, row.Key)
		} else {
			unwritten = append(unwritten, row.Key)
		}
	}
	return unwritten, lost, nil
}

// finishReturn writes back to legacy what the target took since the fence, and lifts
// the fence. While it runs the route is returning: writes wait.
//
// A write of retain journals its key before it touches the target, so every key of
// which the target has a newer version is in the journal. A key that was journalled and
// never written is replayed too, and its version in the target raised to the new era: a
// writer that resumes late is refused by its own compare-and-set.
func (c *Controller) finishReturn(ctx context.Context, at phases.Route, reason string, settle time.Duration) (phases.Route, error) {
	// [return-settled]: while an instance may still be on retain, it may write a key after its
	// replay.
	if err := c.AwaitSettled(ctx, settle); err != nil {
		return at, err
	}
	e, err := c.State.Snapshot(ctx, c.Migration)
	if err != nil {
		return at, err
	}
	// [return-settled], [lapsed-held]: an instance whose lease expired on retain may still write
	// the target, and reads only the target: it must rejoin or be evicted first.
	if err := phases.Legal(at, phases.Route{Phase: phases.Grace}, e.Fleet.LiveRoutes); err != nil {
		return at, blockedByLapsed(err, e.Fleet)
	}
	failpoint.Here("control.return.held")
	attempt := e.Status.Attempt
	// [fence-watched]: writes wait by now, so the fence is raised again rather than the return
	// abandoned: legacy must not take writes beside the replay.
	if _, err := c.restoreFence(ctx, e.Status); err != nil && !(errors.Is(err, store.ErrAttemptOver) && e.Status.ReturnKeys == 0) {
		return at, err // unless an interrupted return has lifted it already
	}
	if e.Status.ReturnJournalLost {
		// [reclaim-scan]: the return journal may lack keys; the flag is in the state, so a resumed
		// return scans too.
		if err := c.replayUnjournaled(ctx, attempt); err != nil {
			return at, fmt.Errorf("replaying to legacy: %w", err)
		}
	}
	total, done, left := e.Status.ReturnKeys, 0, int64(0)
	for {
		// [return-all]: until none is left. Under returning no key enters, so the loop ends.
		keys, err := c.State.ReturnKeys(ctx, c.Migration, "", returnBatch)
		if err != nil {
			return at, err
		}
		if len(keys) == 0 {
			break
		}
		// [return-lost]: legacy's states of records that the target has lost are left alone, as far
		// as that was accepted.
		there, lost, err := c.splitLost(ctx, keys)
		if err != nil {
			return at, err
		}
		if accepted := e.Status.AcceptedMissing - left; int64(len(lost)) > accepted {
			return at, &MissingError{At: at, Keys: total, Missing: left + int64(len(lost)), Accepted: e.Status.AcceptedMissing}
		}
		if err := c.replay(ctx, attempt, there); err != nil {
			return at, fmt.Errorf("replaying to legacy: %w", err)
		}
		// [return-clear]: after both stores have the key. A crash in between replays it again,
		// which changes nothing. [return-lost]: the lost ones are taken off the accepted number, and
		// the migration is marked unclean, in the same transaction.
		if err := c.State.ClearReturn(ctx, c.Migration, keys, int64(len(lost))); err != nil {
			return at, err
		}
		left += int64(len(lost))
		failpoint.Here("control.return.cleared")
		done += len(keys)
		c.report("replayed %d of %d keys to legacy", done, total)
	}
	// [lift-replayed]: only here, with the return journal empty.
	if _, err := c.Legacy.LiftFence(ctx, attempt, orDefault(c.LockTimeout, phases.LockTimeout)); err != nil {
		return at, err
	}
	failpoint.Here("control.return.lifted")
	return c.fenceMove(ctx, at, phases.Grace, "", reason)
}

func (c *Controller) replay(ctx context.Context, attempt string, keys []record.Key) error {
	for len(keys) > 0 {
		entries, err := c.Target.Get(ctx, keys)
		if err != nil {
			return err
		}
		rows := make([]store.Row, len(entries))
		var absent []record.Key
		for i, e := range entries {
			switch e.Presence {
			case store.Live:
				rows[i] = store.Row{Key: e.Key, Found: true, Record: e.Record}
			// [return-all]: a key that the target has deleted is deleted in legacy; one that it never
			// got is not there either.
			case store.Tombstone:
				rows[i] = store.Row{Key: e.Key}
			case store.Absent:
				rows[i] = store.Row{Key: e.Key}
				absent = append(absent, e.Key)
			default:
				return fmt.Errorf("key %q: the target has %s (%s)", e.Key, e.Presence, e.Detail)
			}
		}
		// [return-lost]: also what the target loses between the count and this read.
		if _, lost, err := c.lostOf(ctx, absent); err != nil {
			return err
		} else if len(lost) > 0 {
			return hint.Errorf(hint.Hint{Do: hint.RollbackToGrace, Text: "which counts them"}, "the target has lost %d records, the first under key %q, while they were being replayed", len(lost), string(lost[0]))
		}
		// [one-decides]: legacy refuses unless the fence is still this attempt's. [return-era]: the
		// versions that it returns are of the era that lifting begins.
		versioned, err := c.Legacy.Replay(ctx, attempt, rows)
		if err != nil {
			return err
		}
		failpoint.Here("control.return.replayed")
		writes := make([]store.Write, len(versioned))
		for i, row := range versioned {
			// [return-era]: on condition that the target is as it was read. That refuses this write
			// if it lands late, so it needs no not-after; a write that came between is replayed.
			writes[i] = store.Write{
				Key: row.Key, Deleted: !row.Found, Record: row.Record,
				Version: row.Version, Only: &entries[i].Version,
			}
		}
		results, err := c.Target.Apply(ctx, writes)
		if err != nil {
			return err
		}
		failpoint.Here("control.return.written")
		var again []record.Key
		for i, res := range results {
			switch {
			case res.Err != nil:
				return fmt.Errorf("key %q: %w", keys[i], res.Err)
			// [return-all]: read and replayed again: legacy must have what the target has in the
			// end.
			case res.Outcome == store.Changed: // a late write came in between: replay that one
				again = append(again, keys[i])
			case res.Outcome != store.Applied:
				return fmt.Errorf("key %q: the target answered %s", keys[i], res.Outcome)
			}
		}
		// Each round is caused by a write of retain that was in flight: there are finitely many,
		// since no new one begins.
		keys = again
	}
	return nil
}
