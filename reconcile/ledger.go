// Package reconcile proves that two stores hold the same records, or finds the keys and
// fields in which they differ, and repairs the target from legacy.
//
// Reconciler.Run is the place to begin: it lists the stages of a run. The comparer finds
// suspects, the rechecker confirms differences, the repairer repairs them, and the
// recorder keeps what was found.
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
	EqualKey     Class = "equal"    // the target has the record, legacy has it under a key that it takes as equal
)

// Finding is one confirmed difference. It holds no values, unless their rule shows them.
type Finding struct {
	Key      record.Key     `json:"key"`
	RawKey   string         `json:"raw_key,omitempty"` // of an unknown key: the target's name of it, which no key leads to
	Class    Class          `json:"class"`
	Path     string         `json:"path,omitempty"`   // JSON Pointer of the first field that differs
	Paths    []string       `json:"paths,omitempty"`  // all of them
	Detail   string         `json:"detail,omitempty"` // keyed hashes, or values where shown
	Version  record.Version `json:"target_version,omitzero"`
	Lost     bool           `json:"lost,omitempty"` // a lost write: missing or stale, and the key was not journaled
	Repaired bool           `json:"repaired"`
	Repair   string         `json:"repair,omitempty"` // the outcome, or why there was no repair
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
	Scanned         int64           `json:"scanned"`     // entries of the target read in the search for extras
	Suspects        int64           `json:"suspects"`    // differed when they were first read
	Differences     int64           `json:"differences"` // confirmed: differed still when rechecked
	Repaired        int64           `json:"repaired"`
	Journaled       int64           `json:"journaled"`                  // journaled keys that the run repaired first, whether they differed or not
	Unsettled       int64           `json:"unsettled,omitempty"`        // unresolved: never agreed, and changed too fast to be confirmed
	Classes         map[Class]int64 `json:"classes,omitempty"`          // confirmed, by class
	Places          int64           `json:"places,omitempty"`           // stretches of blocks that a sampled run read
	Recent          int64           `json:"recent,omitempty"`           // young records compared besides
	RecentDifferent int64           `json:"recent_different,omitempty"` // of these
	RecentOnly      int64           `json:"recent_only,omitempty"`      // of the differences, those that only the sample of young records showed
	Refused         string          `json:"refused,omitempty"`          // why a run that should repair repaired no difference
	Forced          string          `json:"forced,omitempty"`           // the reason given for repairing beyond the bound
	Error           string          `json:"error,omitempty"`
	Began           time.Time       `json:"began"`
	Finished        time.Time       `json:"finished,omitzero"`
}

// Progress is how much of the run's work is done, of how much; both are estimates while it runs. Repairs
// begin when all is compared.
func (r Run) Progress() (done, total int64) {
	done, total = r.Checked+r.Scanned, r.Expected
	if r.TwoWay {
		total *= 2 // and the target's, about as many
	}
	if r.Repair && r.Repaired > 0 {
		done, total = done+r.Repaired, done+r.Differences
	}
	return done, max(done, total)
}

// Status is how a run stands.
type Status string

// Statuses of a run.
const (
	Running   Status = "running"
	Paused    Status = "paused" // by an operator, until one resumes it
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

// Ledger keeps a migration's runs, findings and journal. reconciles.Runs implements it in
// the state database.
type Ledger interface {
	// Begin records a run and fills in its ID, Epoch, ConfigHash and, for a sampled
	// one, the Slice (one more than the last sampled run's, modulo Slices). One that has
	// an ID already is resumed as it was saved; ErrNotResumable if it can't be. It takes a
	// lock that one process has at a time, until release; ErrRunning if another has it.
	Begin(ctx context.Context, run Run) (r Run, release func(), err error)
	// Save stores the run and adds findings to it. A finding replaces an earlier one of
	// the run with the same key. The suspects of the jobs with these numbers are
	// rechecked: a resumed run does not get their tallies again.
	Save(ctx context.Context, run Run, found []Finding, rechecked ...int) error
	// Journal returns up to limit journaled keys greater than after, in the order of keys.
	Journal(ctx context.Context, after record.Key, limit int) ([]JournaledKey, error)
	// JournalLength counts the journaled keys.
	JournalLength(ctx context.Context) (int64, error)
	// Clear removes journaled keys at once, each unless it was journaled again since, and returns how many.
	Clear(ctx context.Context, entries []JournaledKey) (cleared int64, err error)
}

// Errors of runs.
var (
	// ErrRunning refuses a second run beside the first.
	ErrRunning = errors.New("another reconcile run of this migration is running")
	// ErrNotResumable refuses to resume a run.
	ErrNotResumable = errors.New("this run can't be resumed")
	// ErrCancelled ends a run that an operator cancelled.
	ErrCancelled = errors.New("the run was cancelled")
)
