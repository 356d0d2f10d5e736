// Package postgres is PostgreSQL as a legacy store ([Legacy]) and as a target
// ([Target]).
//
// Values are sent as the server's own text, under session settings that every
// connection of this package sets when it starts. This package converts them to the
// canonical form of their [record.Kind]. docs/protocol.md has the argument
// for the versions, the barrier and the fence.
//
// A version's position is the timeline and the LSN of the write. With a version column
// it is 0 and the column's value. A chunk is a range of blocks of the table, or of a
// partition, or a range of integer keys.
package postgres
