// Package postgres is PostgreSQL as the store that records leave ([Legacy]) and
// as the one that they enter ([Target]).
//
// Values travel as the server's own text, under session settings that every
// connection of this package asks for at its start, and are brought to the
// canonical form of their [record.Kind] here. docs/protocol.md has the argument
// for the versions, the barrier and the fence.
//
// A version's position is the timeline and the LSN of the write; with a version column
// 0 and the column's value. A chunk is a range of blocks of the table, or of a
// partition, or a range of integer keys.
package postgres
