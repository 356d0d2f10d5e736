package reconcile

import (
	"context"
	"fmt"
	"math"

	"github.com/stranglerfig/migrator/phases"
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
	// Cover replaces the coverage of the run. It counts once the run is done.
	Cover(ctx context.Context, run int64, covered []Covered) error
}

// Coverage is how much of legacy the runs of the last Window have read, by one config
// hash. Legacy is what it was when the newest of them began: the older ones do not cover
// blocks that legacy has gained since. A record that moves to
// another block between two runs may be missed by both, or met twice.
type Coverage struct {
	Window  phases.Duration `json:"window"`
	Runs    int64           `json:"runs"`
	Blocks  int64           `json:"blocks"`  // of legacy
	Checked float64         `json:"checked"` // share of legacy's records, 0 to 1, by the blocks they are in
	// Clean is the share that was checked by runs without any finding or repair, after
	// the newest run that found something.
	Clean float64 `json:"clean"`
}

// String writes the coverage for a person.
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

// Share writes a covered share in per cent, rounded down: 99.99 % is not all.
func Share(share float64) string {
	return fmt.Sprintf("%g %%", math.Floor(share*1000+1e-9)/10)
}
