package reconcile

import (
	"context"
	"fmt"

	"github.com/stranglerfig/migrator/record"
)

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
