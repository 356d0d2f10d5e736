package dual

import (
	"sync"
	"sync/atomic"

	"github.com/stranglerfig/migrator/record"
)

// degradedKeys is how many records an instance tracks one by one.
const degradedKeys = 100_000

// degraded are the records whose copy in the target is known to be behind. This
// instance reads them from legacy until the target has the version that it missed.
type degraded struct {
	some atomic.Bool
	mu   sync.RWMutex
	keys map[record.Key]record.Version
	all  bool // too many to track one by one
}

func (d *degraded) add(entries []JournalEntry) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.keys == nil {
		d.keys = map[record.Key]record.Version{}
	}
	for _, l := range entries {
		if len(d.keys) >= degradedKeys {
			// [degraded-read]: beyond the limit every read of this instance comes from legacy,
			// until its route reads legacy alone or has no fallback (clear).
			d.all = true
			break
		}
		// [degraded-read]: the highest missed version decides. With an older one, the target would
		// answer before it has the newest acknowledged write.
		d.keys[l.Key] = l.Version.Max(d.keys[l.Key])
	}
	d.some.Store(true)
}

// missing returns the version that the target must have reached before it may answer.
func (d *degraded) missing(key record.Key) (v record.Version, behind, all bool) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	v, behind = d.keys[key]
	return v, behind || d.all, d.all
}

// caughtUp removes the record if the target has what it missed: a version that is at
// least the missed one. A missed delete of a key that legacy lacks has no version
// (delete_absent.go): the target has it once it has no record, or a later write of this
// instance (written).
func (d *degraded) caughtUp(key record.Key, target record.Version, found, written bool) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	v, behind := d.keys[key]
	// [degraded-read]: a target that is older than the missed version would return the state before
	// an acknowledged write; so would a record that the missed delete should have removed.
	if behind && (v.NewerThan(target) || v.IsZero() && found && !written) {
		return false
	}
	delete(d.keys, key)
	d.some.Store(len(d.keys) > 0 || d.all)
	return true
}

func (d *degraded) clear() {
	if !d.some.Load() {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.keys, d.all = nil, false
	d.some.Store(false)
}
