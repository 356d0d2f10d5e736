package capture

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pglogrepl"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/record"
)

// Progress is how far capture has come: what is before Resume, the target has. It belongs to one slot of one
// server on one timeline, and is void for any other: of two positions neither is the later one then.
//
// [capture-progress]: three positions of a commit, each with one purpose. Its record's start is the version's
// position, its record's end the place to resume at; the order of changes within a transaction is neither.
type Progress struct {
	System      string        `json:"system"`      // the server's identifier
	Timeline    uint32        `json:"timeline"`    //
	Slot        string        `json:"slot"`        // and of the publication; "": there is none yet
	Consistent  pglogrepl.LSN `json:"consistent"`  // where the slot begins
	Publication string        `json:"publication"` // changes when the publication is altered

	Resume  pglogrepl.LSN  `json:"resume"`            // the end of the last commit that the target has
	Commit  time.Time      `json:"commit,omitzero"`   // when that was committed, by legacy's clock
	Era     uint32         `json:"era"`               // of what follows; 0: before the first barrier
	Barrier record.Version `json:"barrier,omitzero"`  // the last one that was passed
	Fence   string         `json:"fence,omitempty"`   // the attempt whose fence was passed, and not its lift
	Sweeps  []Sweep        `json:"sweeps,omitempty"`  // of truncated tables, that are due once more
	Changes int64          `json:"changes,omitempty"` // rows that were brought

	Lost string `json:"-"` // why changes are missing, as another process found; "": none are known to be
}

// Sweep is what is left to do after a TRUNCATE.
type Sweep struct {
	Version record.Version `json:"version"` // of the TRUNCATE
	Opens   time.Time      `json:"opens"`   // by the target's clock: every not-after from before it is over
	Partly  bool           `json:"partly"`  // only parts of the table were truncated
}

// Ledger keeps a migration's progress, and what capture finds.
type Ledger interface {
	// Begin returns the progress, zero if there is none. It takes a lock that one process has at a time,
	// until release. ErrRunning if another has it.
	Begin(ctx context.Context) (p Progress, release func(), err error)
	// Held returns an error unless this process still has the lock.
	Held(ctx context.Context) error
	// Save stores p. It fails unless this process still has the lock.
	Save(ctx context.Context, p Progress) error
	// Journal notes keys of which the target lacks a state, since it can't take it.
	Journal(ctx context.Context, keys []Refused) error
	// Unclean marks the migration: only a full reconcile shows that the target is right.
	Unclean(ctx context.Context, why string) error
}

// Refused is a record that the target can't store.
type Refused struct {
	Key     record.Key
	Version record.Version
	Err     error
}

// ErrRunning is returned by Begin.
var ErrRunning = errors.New("another process captures the changes of this migration")

// LostError is returned by Run when changes are missing between the saved progress and what the server still
// has, or may be. Forget, and then another Run and a backfill, begin again.
type LostError struct{ Reason string }

// Error implements error.
func (e *LostError) Error() string { return "changes of legacy are lost to capture: " + e.Reason }

func lost(reason string) error {
	return hint.With(&LostError{reason}, hint.Hint{Do: hint.BackfillRun, Text: "after capture has begun again, so that a barrier covers what is missing"})
}
