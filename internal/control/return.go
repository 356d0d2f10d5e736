package control

import (
	"context"
	"errors"
	"fmt"
	"slices"
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
	Unproven int64 // of those, written or not: the target has lost data, and nothing shows which
	Accepted int64
}

func (e *MissingError) Error() string {
	text := fmt.Sprintf("the target has lost %d of the %d records that were written since the fence", e.Missing, e.Keys)
	if e.Unproven > 0 {
		text += fmt.Sprintf(", and %d more may be lost: the target has nothing of them since the fence, and has lost data", e.Unproven)
	}
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
	return hint.Hint{Do: hint.AcceptMissing, Of: []string{fmt.Sprint(e.Missing + e.Unproven)}, Text: "after trying to restore the target's data"}
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
	return gaps, c.Legacy.RestoreFence(ctx, st.Attempt, st.FirstFenceEra, st.FenceEra, orDefault(c.LockTimeout, phases.LockTimeout))
}

// splitLost reads what the target has of keys, without those whose records it has lost, and legacy has: there is not
// even a version, though a record that was deleted in retain keeps its version for good; or the version is of a record
// that another program has deleted.
func (c *Controller) splitLost(ctx context.Context, keys []record.Key) (there []store.Entry, lost []record.Key, err error) {
	entries, err := c.Target.Get(ctx, keys)
	if err != nil {
		return nil, nil, fmt.Errorf("read the target: %w", err)
	}
	var absent []record.Key
	for _, e := range entries {
		if e.Presence == store.Absent || e.Vanished {
			absent = append(absent, e.Key)
		}
	}
	if lost, err = c.lostOf(ctx, absent); err != nil || len(lost) == 0 {
		return entries, nil, err
	}
	there = slices.DeleteFunc(entries, func(e store.Entry) bool { return slices.Contains(lost, e.Key) })
	return there, lost, nil
}

// lostOf returns those of absent, keys of which the target has nothing, that legacy has: the
// target has lost them. The others were listed and never written.
func (c *Controller) lostOf(ctx context.Context, absent []record.Key) (lost []record.Key, err error) {
	if len(absent) == 0 {
		return nil, nil
	}
	rows, err := c.Legacy.Lookup(ctx, absent)
	if err != nil {
		return nil, fmt.Errorf("look up what legacy has of %d keys that the target lacks: %w", len(absent), err)
	}
	for _, row := range rows {
		// [return-lost]: a record that has expired is not lost, though legacy still has its row.
		if row.Found && (c.Expired == nil || !c.Expired(row.Record)) {
			lost = append(lost, row.Key)
		}
	}
	return lost, nil
}

// finishReturn writes back to legacy what it lacks of what the target took since the fence, and
// lifts the fence. While it runs the route is returning: writes wait. What legacy refuses, and a
// signal if the command gives up by one, lead back to retain.
func (c *Controller) finishReturn(ctx context.Context, at phases.Route, reason string, settle time.Duration, givesUp bool) (phases.Route, error) {
	route, err := c.completeReturn(ctx, at, reason, settle)
	var refused *RefusedError
	if errors.As(err, &refused) || err != nil && givesUp && ctx.Err() != nil {
		return c.giveUpBecause(ctx, at, err)
	}
	return route, err
}

// giveUpBecause gives a return up, and returns the route and the error that the caller reports.
func (c *Controller) giveUpBecause(ctx context.Context, at phases.Route, err error) (phases.Route, error) {
	var refused *RefusedError
	// The caller's context may have ended; writes wait meanwhile.
	undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), phases.UndoWithin)
	defer cancel()
	retained, undoErr := c.giveUp(undo, at, err)
	switch {
	case undoErr != nil:
		c.report("the return could not be given up: %s", undoErr)
		return at, err
	case errors.As(err, &refused):
		refused.At = retained
		return retained, err
	}
	return retained, fmt.Errorf("the return was given up, and the migration is at %s again: %w", retained, err)
}

// giveUpUnknown gives a return up whose first move was interrupted, if it was committed.
func (c *Controller) giveUpUnknown(ctx context.Context, from phases.Route, err error) (phases.Route, error) {
	e, unread := c.State.Snapshot(context.WithoutCancel(ctx), c.Migration)
	if at := e.Status.Route; unread == nil && at.Phase == phases.Returning && at.Epoch > from.Epoch {
		return c.giveUpBecause(ctx, at, err)
	}
	return phases.Route{}, err
}

// giveUp leads from returning back to retain. [return-given-up]: the era of the fence and the
// run's number grow in one transaction of legacy, before retain is committed, and retain carries the
// new era: the target may have some keys at it.
func (c *Controller) giveUp(ctx context.Context, at phases.Route, cause error) (phases.Route, error) {
	e, err := c.State.Snapshot(ctx, c.Migration)
	if err != nil {
		return at, err
	}
	if e.Status.ReturnJournalLost {
		// [reclaim-scan]: the target may have writes that no journal knows of.
		return at, errors.New("the return journal may lack keys")
	}
	if e.Status.ReturnFinal {
		return at, errFinal
	}
	era, err := c.Legacy.RenewFence(ctx, e.Status.Attempt)
	if err != nil {
		return at, err
	}
	failpoint.Here("control.return.renewed")
	status, err := c.State.Transition(ctx, c.Migration, func(e phases.Snapshot) (phases.Move, error) {
		if e.Status.ReturnFinal {
			return phases.Move{}, errFinal
		}
		return phases.Move{
			// [one-decides]: another command may have ended the return.
			From: at, To: phases.Route{Phase: phases.Retain}, Cause: phases.CauseRollback,
			Reason: "the return was given up: " + cause.Error(), Attempt: e.Status.Attempt, FenceEra: era,
		}, nil
	})
	if err != nil {
		return at, err
	}
	failpoint.Here("control.return.given-up")
	c.report("%s → %s (epoch %d)", at, status.Route, status.Route.Epoch)
	return status.Route, nil
}

// errFinal: [return-final].
var errFinal = errors.New("lost or refused records are being settled")

func (c *Controller) completeReturn(ctx context.Context, at phases.Route, reason string, settle time.Duration) (phases.Route, error) {
	// [return-settled]: while an instance may still be on retain, it may write a key after its
	// replay.
	if err := c.AwaitSettled(ctx, settle); err != nil {
		return at, err
	}
	// [beat-first]: shows whether the state went back, before its journal is relied upon.
	if err := c.isWhole(ctx); err != nil {
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
	// [fence-watched]: writes wait by now, so the fence is raised again rather than the return
	// abandoned: legacy must not take writes beside the replay.
	_, err = c.restoreFence(ctx, e.Status)
	// An interrupted return may have lifted it: only with every key copied. A legacy that knows of
	// that has all copies, which were made before.
	lifted := errors.Is(err, store.ErrAttemptOver)
	if lifted && e.Status.ReturnRest > 0 {
		return at, hint.With(fmt.Errorf("the fence was lifted with every key copied, and the state database does not know of that: %w", err), phases.StateLossHint())
	}
	if err != nil && !lifted {
		return at, err
	}
	if !lifted {
		if err := c.replayRest(ctx, at, e.Status); err != nil {
			return at, err
		}
		failpoint.Here("control.return.lifted")
	}
	// [return-clear], [lift-replayed]: after the fence is lifted, under which no key enters; before
	// grace.
	if err := c.State.EmptyReturn(ctx, c.Migration, at); err != nil {
		return at, err
	}
	failpoint.Here("control.return.emptied")
	return c.fenceMove(ctx, at, phases.Grace, "", reason)
}

// replayRest replays what legacy lacks, and lifts the fence.
//
// A write of retain journals its key before it touches the target, so every key of
// which the target has a newer version is in the journal. A key that was journalled and
// never written is replayed too, and its version in the target raised to the new era: a
// writer that resumes late is refused by its own compare-and-set.
func (c *Controller) replayRest(ctx context.Context, at phases.Route, st phases.Status) error {
	run, err := c.beginRun(ctx, at, st.Attempt)
	if err != nil {
		return err
	}
	failpoint.Here("control.return.begun")
	var scanned []store.Refusal
	if st.ReturnJournalLost {
		// [reclaim-scan]: the return journal may lack keys; the flag is in the state, so a resumed
		// return scans too.
		if scanned, err = c.replayUnjournaled(ctx, at, run, st.SetsAside); err != nil {
			return fmt.Errorf("replaying to legacy: %w", err)
		}
	}
	if err := c.lastRound(ctx, at, run, st, scanned); err != nil {
		return err
	}
	// [return-beat]: also of what was scanned, or set aside.
	if err := c.isWhole(ctx); err != nil {
		return err
	}
	// [lift-replayed]: only here, with every key copied. [replay-run]: by the newest run.
	_, err = c.Legacy.EndReplay(ctx, run, orDefault(c.LockTimeout, phases.LockTimeout))
	return err
}

// beginRun ends every other run of copies. [replay-legacy]: marks of another legacy are void.
func (c *Controller) beginRun(ctx context.Context, at phases.Route, attempt string) (store.ReplayRun, error) {
	run, err := c.Legacy.BeginReplay(ctx, attempt)
	if err != nil {
		return run, err
	}
	return run, c.State.BeginReturn(ctx, c.Migration, at, run.Legacy)
}

// lastRound copies every key that is not marked, and writes it to the target at the coming era. A
// row that legacy refuses may only be early: another one is in its way that is replayed later. So
// refused keys are tried again after the others, until a pass makes no progress, and at last together.
// scanned are refused too, and need not be in the journal: they are to be set aside.
func (c *Controller) lastRound(ctx context.Context, at phases.Route, run store.ReplayRun, st phases.Status, scanned []store.Refusal) error {
	p := &returnPass{c: c, at: at, run: run, total: st.ReturnKeys, accepted: st.AcceptedMissing, began: time.Now()}
	defer func() { c.noteRate(ctx, p.done, time.Since(p.began)) }()
	for {
		before := p.done
		refused, err := p.all(ctx, returnBatch)
		if err != nil {
			return err
		}
		if len(refused) > 0 && p.done > before {
			continue
		}
		if len(refused) > 1 && len(refused) <= togetherMost {
			if refused, err = p.all(ctx, togetherMost); err != nil {
				return err
			}
			if p.done > before {
				continue
			}
		}
		if len(refused) > 0 && !st.SetsAside {
			return &RefusedError{At: at, Keys: p.total, Refused: refused}
		}
		if refused, err = p.alsoScanned(ctx, refused, scanned); err != nil {
			return err
		}
		return p.settle(ctx, refused)
	}
}

// alsoScanned adds to refused what is still refused of scanned.
func (p *returnPass) alsoScanned(ctx context.Context, refused, scanned []store.Refusal) ([]store.Refusal, error) {
	known := make(map[record.Key]bool, len(refused))
	for _, r := range refused {
		known[r.Key] = true
	}
	var keys []record.Key
	for _, r := range scanned {
		if !known[r.Key] {
			keys = append(keys, r.Key)
		}
	}
	lost, more, err := p.c.replay(ctx, p.run, keys)
	if err == nil && len(lost) > 0 {
		err = errLostMeanwhile(lost)
	}
	return append(refused, more...), err
}

func errLostMeanwhile(lost []record.Key) error {
	return hint.Errorf(hint.Hint{Do: hint.Retry}, "the target has lost %d records, the first under key %q, while they were being replayed", len(lost), string(lost[0]))
}

// settle takes the records off the journal that a person has decided about. [return-final]: last, and
// once the return can't be given up: retain would serve what is settled here, and another return would
// not know of it.
func (p *returnPass) settle(ctx context.Context, refused []store.Refusal) error {
	if len(refused)+len(p.lost) == 0 {
		return nil
	}
	if err := p.c.State.FinalizeReturn(ctx, p.c.Migration, p.at); err != nil {
		return err
	}
	failpoint.Here("control.return.final")
	for lost := range slices.Chunk(p.lost, togetherMost) {
		// [return-lost]: taken off the accepted number, and the migration is marked unclean, in the
		// same transaction.
		if err := p.c.State.ClearReturn(ctx, p.c.Migration, lost, nil); err != nil {
			return err
		}
	}
	return p.setAside(ctx, refused)
}

// togetherMost bounds the refused rows that are replayed in one transaction.
const togetherMost = 10 * returnBatch

// returnPass is the progress of a last round.
type returnPass struct {
	c        *Controller
	at       phases.Route
	run      store.ReplayRun
	total    int64        // keys in the return journal
	accepted int64        // records that the target may have lost
	lost     []record.Key // in the present pass
	done     int
	began    time.Time
}

// all replays every key that is not marked, in batches. It returns what legacy refuses.
func (p *returnPass) all(ctx context.Context, batch int) (refused []store.Refusal, err error) {
	p.lost = nil
	// What is refused or lost gets a higher number than this.
	newest, err := p.c.State.NewestChange(ctx, p.c.Migration)
	if err != nil {
		return nil, err
	}
	for {
		// [return-all]: until none is left. Under returning no key enters, so the loop ends.
		keys, err := p.c.State.ReturnRest(ctx, p.c.Migration, newest, batch)
		if err != nil || len(keys) == 0 {
			return refused, err
		}
		more, err := p.replay(ctx, keys)
		if err != nil {
			return nil, err
		}
		refused = append(refused, more...)
	}
}

// replay replays keys, and marks those that both stores have.
func (p *returnPass) replay(ctx context.Context, keys []store.ReturnKey) ([]store.Refusal, error) {
	names := namesOf(keys)
	lost, refused, err := p.c.replay(ctx, p.run, names)
	if err != nil {
		return nil, fmt.Errorf("replaying to legacy: %w", err)
	}
	// [return-lost]: legacy's states of records that the target has lost are left alone, as far
	// as that was accepted.
	p.lost = append(p.lost, lost...)
	if n := int64(len(p.lost)); n > p.accepted {
		return nil, &MissingError{At: p.at, Keys: p.total, Missing: n, Accepted: p.accepted}
	}
	// [return-refused]: a refused key stays.
	stay := lost
	for _, r := range refused {
		stay = append(stay, r.Key)
	}
	// [return-clear]: after both stores have the keys. A crash in between replays them again,
	// which changes nothing.
	if err := p.c.markCopied(ctx, p.c.Migration, p.at, p.run.Legacy, keys[len(keys)-1].Change, stay); err != nil {
		return nil, err
	}
	failpoint.Here("control.return.cleared")
	p.done += len(keys) - len(stay)
	p.c.report("replayed %d keys to legacy", p.done)
	return refused, nil
}

// setAside leaves rows that legacy refuses in a table of legacy's database. What the target has of
// them becomes legacy's state.
func (p *returnPass) setAside(ctx context.Context, refused []store.Refusal) error {
	for batch := range slices.Chunk(refused, returnBatch) {
		var keys []record.Key
		for _, r := range batch {
			keys = append(keys, r.Key)
		}
		for left := keys; len(left) > 0; {
			entries, lost, err := p.c.splitLost(ctx, left)
			if err != nil {
				return err
			}
			if len(lost) > 0 {
				return hint.Errorf(hint.Hint{Do: hint.Retry}, "the target has lost %d records, the first under key %q, while they were being set aside", len(lost), string(lost[0]))
			}
			rows, err := p.c.rowsOf(ctx, entries)
			if err != nil {
				return err
			}
			have, err := p.c.Legacy.SetAside(ctx, p.run, rows, batch)
			if err != nil {
				return err
			}
			failpoint.Here("control.return.set-aside")
			// [return-aside]: at the coming era, as what is replayed is: reconcile finds both stores equal, and
			// a writer that wakes late is refused.
			if left, err = p.c.writeBack(ctx, entries, have); err != nil {
				return err
			}
		}
		if err := p.c.State.ClearReturn(ctx, p.c.Migration, nil, keys); err != nil {
			return err
		}
		p.c.report("set aside %d records", len(keys))
	}
	return nil
}

// replay writes what the target has of keys to legacy, and to the target again at the coming era.
// It returns the keys that the target has lost, and the rows that legacy refuses.
func (c *Controller) replay(ctx context.Context, run store.ReplayRun, keys []record.Key) (lost []record.Key, refused []store.Refusal, err error) {
	for len(keys) > 0 {
		// [return-lost]: of what the target has lost nothing is written, and nothing deleted.
		entries, gone, err := c.splitLost(ctx, keys)
		if err != nil {
			return nil, nil, err
		}
		lost = append(lost, gone...)
		rows, err := c.rowsOf(ctx, entries)
		if err != nil {
			return nil, nil, err
		}
		// [one-decides]: legacy refuses unless the fence is still this attempt's. [return-era]: the
		// versions that it returns are of the era that lifting begins.
		done, err := c.Legacy.Replay(ctx, run, rows)
		if err != nil {
			return nil, nil, err
		}
		failpoint.Here("control.return.replayed")
		refused = append(refused, done.Refused...)
		// [return-all]: read and replayed again: legacy must have what the target has in the
		// end. Each time is caused by a write of retain that was in flight: there are finitely
		// many, since no new one begins.
		if keys, err = c.writeBack(ctx, entries, done.Rows); err != nil {
			return nil, nil, err
		}
		failpoint.Here("control.return.written")
	}
	return lost, refused, nil
}

// writeBack writes rows of legacy to the target at their versions. It returns the keys of which the
// target has something else by now than entries, which was read.
func (c *Controller) writeBack(ctx context.Context, entries []store.Entry, rows []store.Row) (changed []record.Key, err error) {
	seen := make(map[record.Key]*record.Version, len(entries))
	for i := range entries {
		seen[entries[i].Key] = &entries[i].Version
	}
	writes := make([]store.Write, 0, len(rows))
	for _, row := range rows {
		// [repair-equal]: legacy has the record, under another text of its key.
		if row.Equal != "" {
			continue
		}
		// [return-era]: on condition that the target is as it was read. That refuses this write
		// if it lands late, so it needs no not-after; a write that came between is replayed.
		writes = append(writes, store.Write{
			Key: row.Key, Deleted: !row.Found, Record: row.Record,
			Version: row.Version, Only: seen[row.Key],
		})
	}
	results, err := c.Target.Apply(ctx, writes)
	if err != nil {
		return nil, err
	}
	for i, res := range results {
		switch {
		case res.Err != nil:
			return nil, fmt.Errorf("key %q: %w", writes[i].Key, res.Err)
		case res.Outcome == store.Changed:
			changed = append(changed, writes[i].Key)
		case res.Outcome != store.Applied:
			return nil, fmt.Errorf("key %q: the target answered %s", writes[i].Key, res.Outcome)
		}
	}
	return changed, nil
}
