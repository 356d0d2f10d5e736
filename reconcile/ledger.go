// Package reconcile proves that two stores hold the same records, or says in
// which keys and fields they do not, and repairs those that legacy is right about.
package reconcile

import (
	"context"
	"errors"
	"time"

	"github.com/stranglerfig/migrator/record"
)

// Class is the kind of a confirmed difference.
type Class string

// Classes of findings.
const (
	Missing      Class = "missing"  // legacy has the record, the target has not
	Extra        Class = "extra"    // the target has the record, legacy has not
	Stale        Class = "stale"    // fields differ and the target's version is older than legacy's last known
	Ahead        Class = "ahead"    // the target's version is newer than anything legacy has given
	FieldDiff    Class = "field"    // fields differ
	Encoding     Class = "encoding" // equal after Unicode normalisation, or the entry can't be decoded
	Expiry       Class = "expiry"   // the records agree, when they expire does not
	Type         Class = "type"     // the key holds a value of another type
	ForeignClass Class = "foreign"  // the key holds what migrator did not write
)

// Finding is one confirmed difference. It holds no values, unless their rule says show.
type Finding struct {
	Key      record.Key     `json:"key"`
	RawKey   string         `json:"raw_key,omitempty"` // the target's name of it, where Key can't be told
	Class    Class          `json:"class"`
	Path     string         `json:"path,omitempty"`   // JSON Pointer of the first field that differs
	Paths    []string       `json:"paths,omitempty"`  // all of them
	Detail   string         `json:"detail,omitempty"` // keyed hashes, or values where shown
	Version  record.Version `json:"target_version,omitzero"`
	Lost     bool           `json:"lost,omitempty"` // missing or stale, and no journal knew
	Repaired bool           `json:"repaired"`
	Repair   string         `json:"repair,omitempty"` // what was done, or why not
	At       time.Time      `json:"at"`
}

// Run is one reconcile run, as it is kept.
type Run struct {
	ID              int64           `json:"run"`
	Epoch           int64           `json:"epoch"`
	ConfigHash      string          `json:"config_hash"`
	Full            bool            `json:"full"`
	TwoWay          bool            `json:"two_way"`
	Repair          bool            `json:"repair"`
	Slice           int             `json:"slice"`  // of a sampled run: which of Slices
	Slices          int             `json:"slices"` // 1 for a full run
	Status          Status          `json:"status"`
	Expected        int64           `json:"expected"`    // records of legacy that the run will compare: an estimate
	Checked         int64           `json:"checked"`     // records of legacy compared
	Scanned         int64           `json:"scanned"`     // entries of the target looked at for extras
	Suspects        int64           `json:"suspects"`    // differed at first sight
	Differences     int64           `json:"differences"` // stayed different: confirmed
	Repaired        int64           `json:"repaired"`
	Journalled      int64           `json:"journalled"`                 // keys of the journal that the run repaired first, whether they differed or not
	Unsettled       int64           `json:"unsettled,omitempty"`        // changed at every look, and could not be judged
	Classes         map[Class]int64 `json:"classes,omitempty"`          // confirmed, by class
	Places          int64           `json:"places,omitempty"`           // stretches of blocks that a sampled run read
	Recent          int64           `json:"recent,omitempty"`           // young records compared besides
	RecentDifferent int64           `json:"recent_different,omitempty"` // of these
	RecentOnly      int64           `json:"recent_only,omitempty"`      // of the differences, those that only young records brought up
	Refused         string          `json:"refused,omitempty"`          // why a run that should repair repaired no difference
	Forced          string          `json:"forced,omitempty"`           // the reason given for repairing beyond the bound
	Error           string          `json:"error,omitempty"`
	Began           time.Time       `json:"began"`
	Finished        time.Time       `json:"finished,omitzero"`
}

// Status is how a run stands.
type Status string

// Statuses of a run.
const (
	Running   Status = "running"
	Paused    Status = "paused" // it waits until somebody lets it go on
	Done      Status = "done"
	Stopped   Status = "stopped"   // by a signal or an error; it proves nothing, and may be resumed
	Cancelled Status = "cancelled" // by an operator; it proves nothing
)

// JournaledKey is a key that is known to be behind in the target.
type JournaledKey struct {
	Key     record.Key     `json:"-"`
	Version record.Version `json:"version,omitzero"` // the highest of the lost writes
	Changes int64          `json:"changes"`          // how often it was journaled; Clear needs the same count
	Reason  string         `json:"reason"`
	Since   time.Time      `json:"since"`
}

// Ledger keeps a migration's runs, findings and journal. state.Reconciles is the one in PostgreSQL.
type Ledger interface {
	// Begin records a run and fills in its ID, Epoch, ConfigHash and, for a sampled
	// one, the Slice (one more than the last sampled run's, modulo Slices). One that has
	// an ID already is gone on with, as it was saved; ErrNotResumable says why not. It
	// holds a lock that only one process has, until release; ErrRunning when another has it.
	Begin(ctx context.Context, run Run) (r Run, release func(), err error)
	// Save stores the run and adds findings to it. One with the key of an earlier one
	// of the run replaces it. The suspects of the jobs whose numbers are given are
	// settled by it.
	Save(ctx context.Context, run Run, found []Finding, settled ...int) error
	// Journal returns up to limit journalled keys greater than after, in the order of keys.
	Journal(ctx context.Context, after record.Key, limit int) ([]JournaledKey, error)
	// Clear removes a journalled key unless it has been journalled again since.
	Clear(ctx context.Context, entry JournaledKey) (cleared bool, err error)
}

// Errors of runs.
var (
	// ErrRunning refuses a second run beside the first.
	ErrRunning = errors.New("another reconcile run of this migration is under way")
	// ErrNotResumable refuses to go on with a run.
	ErrNotResumable = errors.New("this run can't be gone on with")
	// ErrCancelled ends a run that an operator has cancelled.
	ErrCancelled = errors.New("the run was cancelled")
)
