package capture

import (
	"github.com/stranglerfig/migrator/record"
)

// change is what one transaction, or several in their order, have made of one key.
//
// A field of the record that is Missing was left out by the log: a large value that the change did not set.
type change struct {
	deleted bool
	// locked: a field is not known, and the target's is another record's: the row must be read under its lock.
	locked bool
	record record.Record
}

// whole reports whether the change has all that the target must have.
func (c *change) whole() bool {
	if c.deleted {
		return true
	}
	if c.locked {
		return false
	}
	for i := range c.record {
		if c.record[i].State == record.Missing {
			return false
		}
	}
	return true
}

// after is what is left of a key by a change that follows an earlier one. first: there is none.
//
// [capture-reduced]: field by field, since a later change leaves out what an earlier one has set.
func (c change) after(earlier change, first bool) change {
	if first || c.deleted || c.whole() {
		return c
	}
	if earlier.deleted {
		c.locked = true // an update of a row that is not there: never seen, and never guessed
		return c
	}
	for i := range c.record {
		if c.record[i].State == record.Missing {
			c.record[i] = earlier.record[i]
		}
	}
	c.locked = c.locked || earlier.locked
	return c
}

// size is about what the change takes in memory, with its place in a map.
func (c *change) size(key record.Key) int {
	n := 160 + len(key) + 24*len(c.record)
	for i := range c.record {
		n += len(c.record[i].Text)
	}
	return n
}
