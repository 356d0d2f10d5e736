package reconcile

import (
	"context"
	"fmt"
	"time"

	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// recheckAhead reads the keys whose entries seemed to be ahead again, and confirms
// those that still are. One whose fields differ besides is a suspect like any other.
func (r *rechecker) recheckAhead(ctx context.Context) error {
	var keys []record.Key
	for k := range r.ahead {
		if !r.recorder.isConfirmed(k) {
			keys = append(keys, k)
		}
	}
	clear(r.ahead)
	for len(keys) > 0 {
		n := min(len(keys), r.batch)
		read, _, err := r.stores.snapshots(ctx, keys[:n])
		if err != nil {
			return err
		}
		var agree []snapshot
		for _, s := range read {
			if s.entry.Presence == store.Live && r.rules.agreed(s) {
				agree = append(agree, s)
			}
		}
		if err := r.confirmAll(ctx, agree); err != nil {
			return err
		}
		keys = keys[n:]
	}
	return nil
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
			continue // legacy was retired after this read: the target is the authority
		}
		if f := r.rules.classify(s, locked[i], journal[s.entry.Key]); f != nil {
			f.Key, f.At = s.entry.Key, time.Now().UTC()
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

// markLost marks lost writes: what the target lacks, or holds an older state of,
// without an entry in the journal. The journal was read after the snapshots. A key
// that was journaled and repaired between the two is no lost write; its entry has
// changed, and so the entries are read once more.
func (r *rechecker) markLost(ctx context.Context, found []*Finding, certain []snapshot, journal map[record.Key]record.Version) error {
	if len(journal) >= journalLimit {
		return nil // the journal may hold more keys than were read
	}
	fingerprints := map[record.Key]uint64{}
	for _, s := range certain {
		fingerprints[s.entry.Key] = r.rules.fingerprint(s.entry)
	}
	var lost []*Finding
	var keys []record.Key
	for _, f := range found {
		if _, known := journal[f.Key]; !known && (f.Class == Missing || f.Class == Stale) {
			lost, keys = append(lost, f), append(keys, f.Key)
		}
	}
	if len(keys) == 0 {
		return nil
	}
	entries, err := r.stores.target.Get(ctx, keys)
	if err != nil {
		return fmt.Errorf("read the target: %w", err)
	}
	for i, f := range lost {
		f.Lost = r.rules.fingerprint(entries[i]) == fingerprints[f.Key]
	}
	return nil
}
