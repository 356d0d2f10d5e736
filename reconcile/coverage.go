package reconcile

import (
	"context"
	"fmt"
	"math"

	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/store"
)

// Covered is what a run reads of one space of legacy, such as a table's blocks: see
// store.Extent.
type Covered struct {
	Space      string
	Generation int64   // ranges of another one are elsewhere
	Size       int64   // of the space
	Records    int64   // in it: an estimate
	Ranges     []Range // in order, apart from each other
}

// Range is from From up to, but without, To.
type Range struct{ From, To int64 }

// Coverer is a Ledger that keeps what runs read.
type Coverer interface {
	// Cover replaces what was said before of the run. It counts when the run is done.
	Cover(ctx context.Context, run int64, covered []Covered) error
}

// Coverage is how much of legacy the runs of the last Window have read, by one
// description. Legacy is what it was when the newest of them began: blocks that it
// has gained since the others are not covered by them. A record that moves to
// another block between two runs may be missed by both, or met twice.
type Coverage struct {
	Window  phases.Duration `json:"window"`
	Runs    int64           `json:"runs"`
	Blocks  int64           `json:"blocks"`  // of legacy
	Checked float64         `json:"checked"` // share of legacy's records, 0 to 1, by the blocks they are in
	// Clean is the share that runs have checked which found and repaired nothing,
	// after the newest run that found something.
	Clean float64 `json:"clean"`
}

// String says it to a person.
func (c Coverage) String() string {
	if c.Runs == 0 {
		return fmt.Sprintf("no run of the last %s", c.Window)
	}
	runs := "one run"
	if c.Runs > 1 {
		runs = grouped(c.Runs) + " runs"
	}
	return fmt.Sprintf("%s of legacy checked by %s of the last %s, %s by clean ones since a difference was found",
		Share(c.Checked), runs, c.Window, Share(c.Clean))
}

// Share writes a covered share in per cent, rounded down: all but a little is not all.
func Share(share float64) string {
	return fmt.Sprintf("%g %%", math.Floor(share*1000+1e-9)/10)
}

// cover notes what a run reads of legacy's chunks, where legacy knows where they are.
func (r *work) cover(ctx context.Context, chunks []store.Chunk) error {
	locator, locates := r.Legacy.(store.ChunkLocator)
	if locates && r.sums.bySpans(chunks) { // of all records, thus of all blocks
		var err error
		if chunks, err = r.Legacy.Chunks(ctx, r.ChunkRows); err != nil {
			return fmt.Errorf("count legacy's blocks: %w", err)
		}
	}
	extents := make([]store.Extent, len(chunks))
	for i, c := range chunks {
		extents[i] = store.Extent{From: int64(i), To: int64(i) + 1} // as if the order were all
		if locates {
			var err error
			if extents[i], err = locator.Locate(c); err != nil {
				return fmt.Errorf("find where a chunk of legacy is: %w", err)
			}
		}
	}
	covered := coverageOf(chunks, extents, slice(extents, r.run.Slice, r.run.Slices))
	r.run.Places = 0
	if !r.run.Full {
		for _, c := range covered {
			r.run.Places += int64(len(c.Ranges))
		}
	}
	ledger, ok := r.Ledger.(Coverer)
	if !ok || !locates {
		return nil
	}
	if err := ledger.Cover(ctx, r.run.ID, covered); err != nil {
		return fmt.Errorf("note which blocks the run reads: %w", err)
	}
	return nil
}

// coverageOf sums up chunks in physical order, with where they are, of which some
// are read.
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
