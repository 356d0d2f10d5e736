package capture

import (
	"time"

	"github.com/jackc/pglogrepl"

	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store/postgres"
)

// transaction is one transaction of legacy, reduced to its last state of each key.
//
// [capture-reduced]: all its changes have one version, of which the target takes the first and refuses the
// others. And their own positions are no versions: an insert is logged before it waits for another
// transaction's delete of the same key.
type transaction struct {
	commit pglogrepl.LSN // where its commit record begins: the position of its version
	end    pglogrepl.LSN // where that record ends: the place to resume at
	at     time.Time     // when it was committed, by legacy's clock

	changes   int64                 // rows that it has changed
	single    bool                  // it has one key so far, as most transactions, and no map: key and state
	key       record.Key            //
	state     change                //
	states    map[record.Key]change // of all keys, if there are several; nil after it was spilled
	size      int                   // of states, about
	spilled   *spill                // the states, where they are too many for memory
	truncated bool                  // the table was truncated; states are what came after it
	partly    bool                  // parts of the table were truncated
	markers   []postgres.Marker     // in their order
	limit     int                   // of size, before it is spilled
	dir       string                // for the spill
	level     int                   // of the spill
}

// add adds a change of a key.
func (t *transaction) add(key record.Key, c change) error {
	t.changes++
	if t.spilled != nil {
		return t.spilled.write(key, c)
	}
	var earlier change
	there := false
	switch {
	case !t.single && len(t.states) == 0:
		t.single, t.key, t.state = true, key, c
	case t.single && t.key == key:
		earlier, there = t.state, true
		c = c.after(earlier, false)
		t.state = c
	default:
		t.several()
		earlier, there = t.states[key]
		c = c.after(earlier, !there)
		t.states[key] = c
	}
	t.size += c.size(key)
	if there {
		t.size -= earlier.size(key)
	}
	if t.size <= t.limit {
		return nil
	}
	t.several()
	t.spilled = newSpill(t.dir, t.level)
	for key, c := range t.states {
		if err := t.spilled.write(key, c); err != nil {
			return err
		}
	}
	t.states, t.size = nil, 0
	return nil
}

// several puts a single state into the map.
func (t *transaction) several() {
	if t.states == nil {
		t.states = map[record.Key]change{}
	}
	if t.single {
		t.states[t.key] = t.state
		t.single, t.key, t.state = false, "", change{}
	}
}

// reusableKeys is how large a map may be that is used again: clearing it costs what it has held.
const reusableKeys = 64

// reset makes the transaction that of the next BEGIN. Its states must have been handed over.
func (t *transaction) reset(commit pglogrepl.LSN, at time.Time) {
	states := t.states
	if len(states) > reusableKeys {
		states = nil
	}
	clear(states)
	*t = transaction{commit: commit, at: at, limit: t.limit, dir: t.dir, states: states}
}

// truncate forgets what came before it: those rows are gone.
func (t *transaction) truncate() {
	t.changes++
	t.truncated, t.partly = true, false
	t.close()
	clear(t.states)
	t.single, t.key, t.state, t.size = false, "", change{}, 0
}

// heavy reports whether the transaction is applied by itself.
func (t *transaction) heavy() bool { return t.spilled != nil || t.truncated || t.partly }

// each calls yield with the last states, in parts that fit into memory. No key is in two parts.
func (t *transaction) each(yield func(map[record.Key]change) error) error {
	if t.partly {
		// [capture-truncated]: which records were in the truncated partitions, the log does not say.
		inner := yield
		yield = func(states map[record.Key]change) error {
			for key, c := range states {
				c.locked = !c.deleted
				states[key] = c
			}
			return inner(states)
		}
	}
	if t.spilled != nil {
		return t.spilled.each(t.limit, yield)
	}
	t.several()
	if len(t.states) == 0 {
		return nil
	}
	return yield(t.states)
}

// close removes the spill.
func (t *transaction) close() {
	if t.spilled != nil {
		t.spilled.close()
		t.spilled = nil
	}
}
