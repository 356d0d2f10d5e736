// Package pgfleet connects an application's instance to the migrator's state in
// PostgreSQL: a Fleet is the [dual.Fleet] of one migration. It needs no more rights
// than migrator init --grant-application gives a role, and links nothing of the
// operator's tool.
//
// A Fleet sends each transaction in one round trip: an application that freezes
// between two statements would keep the migration's row locked, and so block every
// rollback, for as long as it is frozen.
package pgfleet
