package reconcile

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/stranglerfig/migrator/internal/repair"
	"github.com/stranglerfig/migrator/internal/sleep"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// rechecker reads suspects again until each agrees, is confirmed to differ, or has
// changed too fast to decide. See Reconciler for the proof.
type rechecker struct {
	stores   *stores
	rules    *rules
	pace     *pace
	recorder *recorder
	batch    int
	pause    time.Duration // before the first recheck; doubles each time
	rereads  int
	ripe     time.Duration               // an entry that differs unchanged for so long has lost a write
	limit    int                         // suspects in memory at most before they must be rechecked
	caughtUp func(context.Context) error // see Reconciler.CaughtUp; nil: not awaited

	// confirm takes each confirmed difference, which it must record.
	confirm func(Finding)

	suspects map[record.Key]struct{}
	ahead    map[record.Key]struct{} // agree, but the target's version seems to be ahead
}

// clockSlack is added to NotAfter: clocks are read to and fro over a network.
const clockSlack = 100 * time.Millisecond

func newRechecker(c *comparer, r *recorder, o Options, confirm func(Finding)) *rechecker {
	return &rechecker{
		stores: c.stores, rules: c.rules, pace: c.pace, recorder: r,
		batch: o.Batch, pause: o.Pause, rereads: o.Rereads, ripe: o.NotAfter + clockSlack, limit: o.Quarantine,
		confirm: confirm, suspects: map[record.Key]struct{}{}, ahead: map[record.Key]struct{}{},
	}
}

// add takes suspects, and keys whose entries seem to be ahead. A suspect counts once,
// and not at all if its difference is confirmed.
func (r *rechecker) add(suspects, ahead []record.Key) {
	before := len(r.suspects)
	for _, k := range suspects {
		if _, known := r.suspects[k]; !known && !r.recorder.isConfirmed(k) {
			r.suspects[k] = struct{}{}
		}
	}
	r.recorder.suspected(int64(len(r.suspects) - before))
	for _, k := range ahead {
		r.ahead[k] = struct{}{}
	}
}

// full reports whether the suspects must be rechecked before others are added.
func (r *rechecker) full() bool { return len(r.suspects) >= r.limit }

// suspect is a key whose copies differed when they were last read.
type suspect struct {
	key         record.Key
	fingerprint uint64    // of the entry
	since       time.Time // when the entry was first read like this, by the target's clock; zero: not read yet
}

// recheck decides all suspects and all keys that seem to be ahead.
func (r *rechecker) recheck(ctx context.Context) error {
	if err := r.recheckAhead(ctx); err != nil {
		return err
	}
	list := make([]suspect, 0, len(r.suspects))
	for k := range r.suspects {
		list = append(list, suspect{key: k})
	}
	slices.SortFunc(list, func(a, b suspect) int { return strings.Compare(string(a.key), string(b.key)) })
	clear(r.suspects)
	pause := r.pause
	for round := 1; len(list) > 0; round++ {
		wait := pause
		if round > 1 {
			var err error
			if wait, err = r.untilRipe(ctx, list, pause, round > r.rereads); err != nil {
				return err
			}
		}
		if err := sleep.For(ctx, wait); err != nil {
			return err
		}
		// [capture-awaited]: what is still under way is no difference.
		if r.caughtUp != nil {
			if err := r.caughtUp(ctx); err != nil {
				return err
			}
		}
		pause = min(2*pause, time.Hour)
		var rest []suspect
		for batch := range slices.Chunk(list, r.batch) {
			left, err := r.recheckBatch(ctx, batch, round >= r.rereads)
			if err != nil {
				return err
			}
			rest = append(rest, left...)
		}
		list = rest
	}
	return nil
}

// untilRipe is how long to wait before the suspects are read again: the pause, or less
// if the first of them can be decided before; once the rereads are used up, until all
// of them can be.
func (r *rechecker) untilRipe(ctx context.Context, list []suspect, pause time.Duration, usedUp bool) (time.Duration, error) {
	now, err := r.stores.now(ctx)
	if err != nil {
		return 0, err
	}
	first, last := list[0].since, list[0].since
	for _, s := range list {
		if s.since.Before(first) {
			first = s.since
		}
		if s.since.After(last) {
			last = s.since
		}
	}
	if usedUp {
		return max(0, last.Add(r.ripe).Sub(now)), nil
	}
	return min(pause, max(0, first.Add(r.ripe).Sub(now))), nil
}

// recheckBatch reads the batch once and returns those that remain suspect. In the last
// rounds, keys whose entry has changed since it was read before leave the list, and
// are read in quick succession instead.
func (r *rechecker) recheckBatch(ctx context.Context, batch []suspect, last bool) ([]suspect, error) {
	if err := r.pace.wait(ctx, len(batch)); err != nil {
		return nil, err
	}
	keys := make([]record.Key, len(batch))
	for i := range batch {
		keys[i] = batch[i].key
	}
	read, after, err := r.stores.snapshots(ctx, keys)
	if err != nil {
		return nil, err
	}
	var rest []suspect
	var certain []snapshot
	var moving []record.Key
	for i, now := range read {
		if r.rules.agreed(now) {
			continue
		}
		s := batch[i]
		switch p := r.rules.fingerprint(now.entry); {
		case s.since.IsZero():
			s.fingerprint, s.since = p, after
		case s.fingerprint != p && last:
			moving = append(moving, s.key)
			continue
		case s.fingerprint != p:
			s.fingerprint, s.since = p, after
		case now.now.Sub(s.since) >= r.ripe:
			certain = append(certain, now)
			continue
		}
		rest = append(rest, s)
	}
	if err := r.readMoving(ctx, moving); err != nil {
		return nil, err
	}
	return rest, r.confirmAll(ctx, certain)
}

// confirmAll classifies differences that are certain, and confirms them. A snapshot
// without a difference must be of an entry that seems to be ahead.
func (r *rechecker) confirmAll(ctx context.Context, certain []snapshot) error {
	if len(certain) == 0 {
		return nil
	}
	locked := make([]store.Row, len(certain))
	if r.stores.locker != nil {
		keys := make([]record.Key, len(certain))
		for i := range certain {
			keys[i] = certain[i].entry.Key
		}
		var err error
		if locked, err = r.stores.lockedRows(ctx, keys); err != nil {
			return err
		}
	}
	journal, err := journaledVersions(ctx, r.recorder.ledger)
	if err != nil {
		return err
	}
	var found []*Finding
	for i, s := range certain {
		if r.stores.locker != nil && s.entry.Version.Era() > s.era {
			// [ahead-era]: an entry of a later era is ahead of legacy, unless legacy has been fenced:
			// then the target is the authority, and the key can't be judged.
			if governs, err := r.stores.governs(ctx, s.era); err != nil {
				return err
			} else if !governs {
				r.recorder.unresolved(1)
				continue
			}
		}
		if f := r.rules.classify(s, locked[i], journal[s.entry.Key]); f != nil {
			f.Key, f.At = s.entry.Key, time.Now().UTC()
			// [owned-only]: no repair is queued, so that many of them do not use up what a run may repair.
			if (f.Class == ForeignClass || f.Class == Type) && !s.row.Found && s.row.Equal == "" {
				f.Repair = string(repair.Foreign)
			}
			found = append(found, f)
		}
	}
	if err := r.markLost(ctx, found, certain, journal); err != nil {
		return err
	}
	for _, f := range found {
		r.confirm(*f)
	}
	r.recorder.report()
	return nil
}
