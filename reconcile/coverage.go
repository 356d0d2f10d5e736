package reconcile

import (
	"context"
	"fmt"
	"math"

	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/store"
)

// Covered are the blocks of one relation of legacy that a run reads.
type Covered struct {
	Relation string
	File     uint32   // the rows of another file are in other places
	Blocks   int64    // that the relation has
	Records  int64    // in it: an estimate
	Ranges   []Blocks // in order, apart from each other
}

// Blocks are the blocks from From up to, but without, To.
type Blocks struct{ From, To int64 }

// Coverer is a Ledger that keeps which blocks runs read.
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

// cover notes what a run reads of legacy's chunks.
func (r *work) cover(ctx context.Context, chunks []store.Chunk) error {
	if bySpans(chunks) { // of all records, thus of all blocks
		var err error
		if chunks, err = r.Legacy.Chunks(ctx, r.ChunkRows); err != nil {
			return fmt.Errorf("count legacy's blocks: %w", err)
		}
	}
	relations := coverageOf(chunks, slice(chunks, r.run.Slice, r.run.Slices))
	r.run.Places = 0
	if !r.run.Full {
		for _, c := range relations {
			r.run.Places += int64(len(c.Ranges))
		}
	}
	ledger, ok := r.Ledger.(Coverer)
	if !ok {
		return nil
	}
	if err := ledger.Cover(ctx, r.run.ID, relations); err != nil {
		return fmt.Errorf("note which blocks the run reads: %w", err)
	}
	return nil
}

// coverageOf sums up chunks in physical order, of which some are read.
func coverageOf(all, read []store.Chunk) []Covered {
	var relations []Covered
	for _, c := range all {
		n := len(relations)
		if n == 0 || relations[n-1].Relation != c.Relation {
			relations = append(relations, Covered{Relation: c.Relation, File: c.File})
			n++
		}
		relations[n-1].Blocks = int64(c.From) + int64(c.Blocks)
		relations[n-1].Records += c.Rows
	}
	at := 0
	for _, c := range read {
		for relations[at].Relation != c.Relation {
			at++
		}
		if c.Blocks == 0 {
			continue
		}
		next := Blocks{From: int64(c.From), To: int64(c.From) + int64(c.Blocks)}
		ranges := relations[at].Ranges
		if n := len(ranges); n > 0 && ranges[n-1].To == next.From {
			ranges[n-1].To = next.To
		} else {
			ranges = append(ranges, next)
		}
		relations[at].Ranges = ranges
	}
	return relations
}
