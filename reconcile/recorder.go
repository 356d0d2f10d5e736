package reconcile

import (
	"context"
	"fmt"
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stranglerfig/migrator/internal/failpoint"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// recorder keeps what a run has found, saves it, and reports progress. Nothing else
// changes the run's counts.
//
// The run's coordinator records, one call at a time. Jobs of this process only report
// what they have compared, at any time.
type recorder struct {
	ledger  Ledger
	publish func(Run) // Options.Report; may be nil
	room    int       // findings kept at most; see keep
	seed    maphash.Seed

	inFlight atomic.Int64 // records that unfinished jobs of this process have compared

	mu        sync.Mutex // guards what follows
	run       Run
	confirmed map[uint64]struct{} // hashes of keys with a confirmed difference
	unknown   map[uint64]struct{} // hashes of unknown keys
	findings  []Finding           // kept
	unsaved   []Finding
	kept      map[Class]int
	common    int // findings kept beyond their classes' own room

	collected []int // jobs whose suspects are still to be rechecked
	rechecked []int // jobs whose suspects are rechecked, not saved yet
}

func newRecorder(ledger Ledger, o Options) *recorder {
	return &recorder{
		ledger: ledger, publish: o.Report, room: o.Findings, seed: maphash.MakeSeed(),
		confirmed: map[uint64]struct{}{}, unknown: map[uint64]struct{}{}, kept: map[Class]int{},
	}
}

// begin takes the run as the ledger has recorded it.
func (r *recorder) begin(run Run) {
	if run.Classes == nil {
		run.Classes = map[Class]int64{}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.run = run
}

// current is the run as recorded so far. Its Classes belong to the recorder.
func (r *recorder) current() Run {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.run
}

// confirm records a confirmed difference. It returns the finding's place among the
// kept ones, for replace; -1 if there was no room for it.
func (r *recorder) confirm(f Finding) (place int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.confirmed[r.hash(string(f.Key))] = struct{}{}
	return r.keep(f)
}

// isConfirmed reports whether a difference of the key is recorded.
func (r *recorder) isConfirmed(k record.Key) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, known := r.confirmed[r.hash(string(k))]
	return known
}

// unknownKeys records what the target has under unknown keys, each
// name once. There is no record to compare it with, and so nothing to recheck.
func (r *recorder) unknownKeys(entries []store.Entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range entries {
		e := &entries[i]
		at := r.hash(e.RawKey)
		if _, known := r.unknown[at]; known {
			continue
		}
		r.unknown[at] = struct{}{}
		f := Finding{RawKey: e.RawKey, Class: ForeignClass, Version: e.Version, Detail: e.Detail, At: time.Now().UTC()}
		if e.Presence == store.WrongType {
			f.Class = Type
		}
		if r.run.Repair {
			f.Repair = "not repaired: unknown key; delete it, or narrow the key's template"
		}
		r.keep(f)
	}
}

// keep counts a finding, and keeps it if there is room: half of the room is for any
// finding, and each class has its part of the other half, so that ten thousand missing
// records do not hide the one that is of another type. The caller holds the mutex.
func (r *recorder) keep(f Finding) (place int) {
	r.run.Differences++
	r.run.Classes[f.Class]++
	own := r.room / 2 / len(meanings)
	switch {
	case r.kept[f.Class] < own:
	case r.common < r.room-own*len(meanings):
		r.common++
	default:
		return -1
	}
	r.kept[f.Class]++
	r.findings = append(r.findings, f)
	r.unsaved = append(r.unsaved, f)
	return len(r.findings) - 1
}

// replace records the outcome of a finding's repair. place is what confirm returned.
func (r *recorder) replace(place int, f Finding) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if f.Repaired {
		r.run.Repaired++
	}
	if place >= 0 {
		r.findings[place] = f
		r.unsaved = append(r.unsaved, f)
	}
}

func (r *recorder) hash(s string) uint64 { return maphash.String(r.seed, s) }

// save stores the run, what was found since the last save, and which jobs' suspects
// are rechecked. After an error the next call saves all of it.
func (r *recorder) save(ctx context.Context) error {
	r.mu.Lock()
	run, found, rechecked := r.run, r.unsaved, r.rechecked
	r.mu.Unlock()
	if err := r.ledger.Save(ctx, run, found, rechecked...); err != nil {
		return fmt.Errorf("save the run: %w", err)
	}
	failpoint.Here("reconcile.saved")
	r.mu.Lock()
	defer r.mu.Unlock()
	r.unsaved, r.rechecked = nil, nil
	return nil
}

// report publishes the progress: what is recorded, and what unfinished jobs have compared.
func (r *recorder) report() {
	if r.publish == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	run := r.run
	run.Checked += max(0, r.inFlight.Load())
	run.Classes = make(map[Class]int64, len(r.run.Classes))
	for c, n := range r.run.Classes {
		run.Classes[c] = n
	}
	r.publish(run)
}
