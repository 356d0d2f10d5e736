// Package backfill copies the records that legacy has into the target. A barrier makes
// the copy safe beside live writes.
package backfill

import (
	"context"
	"errors"
	"time"

	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// Progress is the saved state of one backfill: the next command resumes where an
// interrupted one stopped.
type Progress struct {
	ID       int64          `json:"id"`
	Epoch    int64          `json:"epoch"`             // in which it began
	Barrier  record.Version `json:"barrier,omitzero"`  // L0; zero: not yet taken
	Opens    time.Time      `json:"opens,omitzero"`    // target's clock: every not-after from before the barrier is over
	Chunks   []store.Chunk  `json:"chunks"`            // cut after the barrier
	Done     int            `json:"done"`              // leading chunks that the target has
	Swept    int64          `json:"swept"`             // entries older than the barrier that legacy lacks, now tombstones
	Foreign  int64          `json:"foreign,omitempty"` // values that other programs wrote under keys that legacy lacks, which stay
	Rows     int64          `json:"rows"`              // read from legacy
	Applied  int64          `json:"applied"`           // written to the target
	Newer    int64          `json:"newer"`             // not written: the target had the same version or a newer one
	Began    time.Time      `json:"began"`
	Finished time.Time      `json:"finished,omitzero"`

	Throttled string `json:"throttled,omitempty"` // why the throttle holds it now; "": it does not
	Holds     int64  `json:"holds,omitempty"`     // times that it was held
	Held      int64  `json:"held,omitempty"`      // seconds that it was held, up to the last change
}

// Ledger keeps a migration's backfills. backfills.Runs is the one in PostgreSQL.
type Ledger interface {
	// Begin resumes the unfinished backfill, if it began since the migration last left
	// legacy, or records a new one. It takes a lock that one process has at a time, until
	// release. ErrRunning if another has it; ErrNotReady while the migration is on legacy,
	// or an instance may still be.
	Begin(ctx context.Context) (p Progress, release func(), err error)
	// Save stores p. ErrNotReady if the migration has been back in legacy since.
	Save(ctx context.Context, p Progress) error
}

// Errors of Begin and Save.
var (
	ErrRunning  = errors.New("another backfill of this migration is running")
	ErrNotReady = errors.New("the migration is not ready for a backfill")
)
