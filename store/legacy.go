package store

import (
	"context"
	"time"

	"github.com/stranglerfig/migrator/record"
)

// Legacy is a store that records are moved out of. It lists the mandatory methods.
type Legacy interface {
	LegacyRecords
	Locker
	Barrier
	Fence
	Checker
	// Install prepares legacy for versions and the fence. A second call changes nothing.
	Install(ctx context.Context) error
	Close()
}

// LegacyRecords are the records of legacy. Reads see committed state.
type LegacyRecords interface {
	// Schema is the shape of the records, read when the store was opened.
	Schema() *record.Schema
	// Chunks cuts all records into chunks of about rows each, in physical order.
	Chunks(ctx context.Context, rows int) ([]Chunk, error)
	// Scan calls yield for each record of the chunk, as of one snapshot. The row's
	// Record is valid until yield returns. Versions are zero. ErrMoved when the
	// chunk's storage has been replaced since it was cut.
	Scan(ctx context.Context, c Chunk, yield func(Row) error) error
	// Lookup reads the rows of keys, in their order.
	Lookup(ctx context.Context, keys []record.Key) ([]Row, error)
}

// Row is what legacy has under one key.
type Row struct {
	Key     record.Key
	Found   bool
	Record  record.Record
	Version record.Version // at which this state may be applied to the target; zero when the read does not give one
}

// Locker reads a row under a lock that every writer of it must wait for: the
// version it returns is newer than every committed write of the key and older
// than every later one. A version that is read while the migration is fenced has the
// era before the fence's.
type Locker interface {
	LookupLocked(ctx context.Context, keys []record.Key) ([]Row, error)
}

// Barrier finds a version such that every write of the records that began
// before the call is older and committed, and every later one is newer: it waits
// for open writers, up to timeout.
type Barrier interface {
	Barrier(ctx context.Context, timeout time.Duration) (record.Version, error)
}

// Fence makes legacy refuse writes.
type Fence interface {
	// RaiseFence waits for open writers, up to timeout, then refuses all later
	// ones. The attempt marks the fence as its own; raising it again changes
	// nothing. It returns the new era.
	RaiseFence(ctx context.Context, attempt string, timeout time.Duration) (era uint32, err error)
	// VoidFence makes sure that the attempt never raises its fence, if it has not;
	// it does not wait for writers of the records. It returns false if the fence is
	// raised: then only LiftFence removes it.
	VoidFence(ctx context.Context, attempt string) (voided bool, err error)
	// LiftFence makes legacy accept writes again if the fence is the attempt's, and
	// starts a new era, which it returns. Lifting a fence that is not raised is no error.
	LiftFence(ctx context.Context, attempt string, timeout time.Duration) (era uint32, err error)
	// FenceState returns the attempt whose fence is raised ("" for none), and the era.
	FenceState(ctx context.Context) (attempt string, era uint32, err error)
	// FenceGaps describes what is missing of the attempt's fence; "" if it is whole: legacy then
	// refuses every write of the records. ErrAttemptOver if it has been lifted.
	FenceGaps(ctx context.Context, attempt string) (gaps string, err error)
	// RestoreFence raises the attempt's fence again where legacy has lost it, or a part of it
	// (a failover to a server without it, a copy, new partitions). era is the fence's: legacy's
	// own becomes it, and is never lowered. Refused once the attempt is over. Writes that legacy
	// took meanwhile stay there. ErrAttemptOver if it has been lifted.
	RestoreFence(ctx context.Context, attempt string, era uint32, timeout time.Duration) error
	// Replay writes the rows through the attempt's own fence (a row that is not
	// Found is deleted) and returns them with their versions in the next era.
	Replay(ctx context.Context, attempt string, rows []Row) ([]Row, error)
}
