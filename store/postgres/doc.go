// Package postgres is PostgreSQL as the store that records leave ([Legacy]) and
// as the one that they enter ([Target]).
//
// Values travel as the server's own text, under session settings that every
// connection of this package asks for at its start, and are brought to the
// canonical form of their [record.Kind] here. docs/protocol.md has the argument
// for the versions, the barrier and the fence.
package postgres
