// Package statedb is what every reader and writer of the state database shares: the
// connection and its time limits, what its errors mean, and the locks.
//
// Three locks keep the protocol of docs/protocol.md, always taken in this order:
//
//   - a transaction-level advisory lock per migration, the turnstile. PostgreSQL
//     lets new share lockers of a row pass one that waits for an exclusive lock, so a
//     stream of journaled writes could delay a rollback for ever; advisory locks queue.
//   - the migration's row: shared by those that act on the route, exclusive for
//     those that change it.
//   - session-level advisory locks, on connections of their own, for the one
//     backfill and the one reconcile run.
//
// All time is the database's clock.
package statedb
