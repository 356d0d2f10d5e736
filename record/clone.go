package record

import "strings"

// Clone returns a copy of r and its texts, for texts in memory that the store reuses. All
// texts of the copy share one allocation.
func (r Record) Clone() Record {
	if r == nil {
		return nil
	}
	size := 0
	for i := range r {
		size += len(r[i].Text)
	}
	var b strings.Builder
	b.Grow(size)
	for i := range r {
		b.WriteString(r[i].Text)
	}
	all, at := b.String(), 0
	c := make(Record, len(r))
	for i := range r {
		end := at + len(r[i].Text)
		c[i] = Value{State: r[i].State, Text: all[at:end]}
		at = end
	}
	return c
}
