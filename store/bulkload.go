package store

import (
	"context"
	"time"

	"github.com/stranglerfig/migrator/record"
)

// Fill is what Target.Apply would be told of every row of a block.
type Fill struct {
	Block    *record.Block
	Version  record.Version // not zero
	NotAfter time.Time      // not zero
}

// Filler is a Target that takes new records fast, many at once.
type Filler interface {
	// Fill writes rows of which the target has nothing, not even a version, each as
	// Apply would, and sets written for exactly those: written[i] belongs to row i.
	// Whatever else there is to decide about a row is left to Apply: it must be
	// given all rows that are not written. After an error written says nothing, and
	// each row may have been written or not; Apply is safe for all of them.
	Fill(ctx context.Context, f Fill, written []bool) error
	// CanFill tells whether Fill can write the migration's records.
	CanFill() bool
}
