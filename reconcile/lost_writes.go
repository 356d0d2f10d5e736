package reconcile

import (
	"context"
	"fmt"

	"github.com/stranglerfig/migrator/record"
)

// markLost marks what the target lacks, or holds an older state of, though no journal
// knew: where reads come from it, a write was lost. journal was read after the evidence.
// A key that was in it and was repaired before it was read is not lost; its entry has
// changed, and so the entries are read once more.
func (r *work) markLost(ctx context.Context, found []*Finding, sure []evidence, journal map[record.Key]record.Version) error {
	if len(journal) >= journalLimit {
		return nil // it may know more than was read
	}
	seen := map[record.Key]uint64{}
	for _, l := range sure {
		seen[l.entry.Key] = r.print(l.entry)
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
	entries, err := r.Target.Get(ctx, keys)
	if err != nil {
		return fmt.Errorf("read the target: %w", err)
	}
	for i, f := range lost {
		f.Lost = r.print(entries[i]) == seen[f.Key]
	}
	return nil
}
