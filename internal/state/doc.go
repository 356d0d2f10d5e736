// Package state remembers: it keeps where every migration stands, its fleet, its
// evidence and its history in the schema migrator of one PostgreSQL database.
//
// Three locks keep the protocol of docs/protocol.md, always taken in this order:
//
//   - a transaction-level advisory lock per migration, the turnstile. PostgreSQL
//     lets new share lockers of a row pass one who waits to have it alone, so a
//     stream of journalled writes could hold a rollback back for good; advisory
//     locks queue.
//   - the migration's row, shared by those who act on the route, held alone by
//     those who change it.
//   - session-level advisory locks on connections of their own for the one
//     backfill and the one reconcile run.
//
// All time is the database's clock.
package state
