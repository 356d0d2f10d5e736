package reconcile

import (
	"context"
	"fmt"

	"github.com/stranglerfig/migrator/store"
)

// cover records what the run reads of legacy's chunks, if legacy knows where they are.
func (r *runner) cover(ctx context.Context, chunks []store.Chunk) error {
	legacy := r.comparer.stores.legacy
	locator, locates := legacy.(store.ChunkLocator)
	if locates && r.comparer.spans.checksums.bySpans(chunks) { // of all records, thus of all blocks
		var err error
		if chunks, err = legacy.Chunks(ctx, r.options.ChunkRows); err != nil {
			return fmt.Errorf("count legacy's blocks: %w", err)
		}
	}
	extents := make([]store.Extent, len(chunks))
	for i, c := range chunks {
		extents[i] = store.Extent{From: int64(i), To: int64(i) + 1} // the order is all that is known
		if locates {
			var err error
			if extents[i], err = locator.Locate(c); err != nil {
				return fmt.Errorf("find where a chunk of legacy is: %w", err)
			}
		}
	}
	covered := coverageOf(chunks, extents, slice(extents, r.run.Slice, r.run.Slices))
	places := 0
	if !r.run.Full {
		for _, c := range covered {
			places += len(c.Ranges)
		}
	}
	r.recorder.reads(int64(places))
	ledger, ok := r.recorder.ledger.(Coverer)
	if !ok || !locates {
		return nil
	}
	if err := ledger.Cover(ctx, r.run.ID, covered); err != nil {
		return fmt.Errorf("note which blocks the run reads: %w", err)
	}
	return nil
}

// coverageOf adds up chunks in physical order, of which some are read. all is where
// they are.
func coverageOf(chunks []store.Chunk, all, read []store.Extent) []Covered {
	var covered []Covered
	for i, e := range all {
		n := len(covered)
		if n == 0 || covered[n-1].Space != e.Space {
			covered = append(covered, Covered{Space: e.Space, Generation: e.Generation})
			n++
		}
		covered[n-1].Size = e.To
		covered[n-1].Records += chunks[i].Rows
	}
	at := 0
	for _, e := range read {
		for covered[at].Space != e.Space {
			at++
		}
		if e.From == e.To {
			continue
		}
		ranges := covered[at].Ranges
		if n := len(ranges); n > 0 && ranges[n-1].To == e.From {
			ranges[n-1].To = e.To
		} else {
			ranges = append(ranges, Range{From: e.From, To: e.To})
		}
		covered[at].Ranges = ranges
	}
	return covered
}
