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
	Key   record.Key
	Found bool
	// Equal is set instead of Found where legacy has no record of this key, but one of another key
	// that it takes as equal: it can't have both. The target's record of Key must not be deleted then.
	Equal   record.Key
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
	// FirstEra returns the era in which the attempt fenced legacy first; 0: there is no fence. Later
	// eras of the fence are of returns that were given up.
	FirstEra(ctx context.Context) (era uint32, err error)
	// FenceGaps describes what is missing of the attempt's fence; "" if it is whole: legacy then
	// refuses every write of the records. ErrAttemptOver if it has been lifted.
	FenceGaps(ctx context.Context, attempt string) (gaps string, err error)
	// RestoreFence raises the attempt's fence again where legacy has lost it, or a part of it
	// (a failover to a server without it, a copy, new partitions). era is the fence's: legacy's
	// own becomes it, and is never lowered; first is what FirstEra returns from then on. Refused once the
	// attempt is over. Writes that legacy took meanwhile stay there. ErrAttemptOver if it has been lifted.
	RestoreFence(ctx context.Context, attempt string, first, era uint32, timeout time.Duration) error
	// RenewFence raises the era of the attempt's fence, which stands, and ends its run of copies. It returns
	// the new era. ErrAttemptOver if the fence has been lifted.
	RenewFence(ctx context.Context, attempt string) (era uint32, err error)
	// BeginReplay begins a run of copies to fenced legacy through the attempt's own fence. It ends
	// the run before: copies of that one are refused from here on.
	BeginReplay(ctx context.Context, attempt string) (ReplayRun, error)
	// Replay writes rows through the attempt's own fence, in one transaction (a row that is not
	// Found is deleted). Rows that legacy refuses don't fail the others, and the order of the rows
	// does not matter. Refused unless the run is the newest one.
	Replay(ctx context.Context, run ReplayRun, rows []Row) (Replayed, error)
	// SetAside keeps rows that legacy refuses in a table of migrator's in legacy's database, with
	// the reasons, and returns what legacy has of their keys, with versions in the coming era. Refused
	// as Replay is.
	SetAside(ctx context.Context, run ReplayRun, rows []Row, refused []Refusal) ([]Row, error)
	// EndReplay lifts the fence as LiftFence does. Refused as Replay is.
	EndReplay(ctx context.Context, run ReplayRun, timeout time.Duration) (era uint32, err error)
	// Rehearse does what Replay would with all rows that next returns, until it returns none, in
	// one transaction that it rolls back. It returns the rows that legacy would refuse.
	Rehearse(ctx context.Context, attempt string, next func() ([]Row, error)) ([]Refusal, error)
}

// ReplayRun is one run of copies from the target to fenced legacy. Legacy knows the newest one of
// an attempt, so that a process that wakes late can't overwrite a newer copy.
type ReplayRun struct {
	Attempt string
	Number  int64  // counts the attempt's runs, from 1
	Legacy  string // changes when legacy may have lost copies: a crash, a failover, a restore
}

// ReturnKey is a key that the target has written since the fence. Change numbers its last change:
// no number is used twice.
type ReturnKey struct {
	Key    record.Key
	Change int64
}

// Replayed is what legacy has done with rows.
type Replayed struct {
	Rows    []Row     // taken, as legacy stored them, with their versions in the coming era
	Refused []Refusal // the others
}

// Refusal is a row that legacy refuses: because of a constraint, a value that the column's type
// does not take, or an exception of a trigger. It names no value of the row but the key.
type Refusal struct {
	Key        record.Key
	Code       string // SQLSTATE; "" where a trigger suppressed the write without an error
	Constraint string // or the index; "" if the server names none
	Column     string // "" if the server names none
	Table      string // whose constraint or column it is; "" if the server names none
}

// String describes the cause, without the key.
func (r Refusal) String() string {
	text := "SQLSTATE " + r.Code
	if r.Code == "" {
		text = "a trigger of the table suppresses the write"
	}
	switch {
	case r.Constraint != "":
		text = "constraint " + r.Constraint + ", " + text
	case r.Column != "":
		text = "column " + r.Column + ", " + text
	}
	return text
}
