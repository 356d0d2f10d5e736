// Package capture brings the changes of legacy's table to the target from PostgreSQL's log, by logical
// replication: those of every program, also of those that don't know of the migration.
//
// Why the target ends up as legacy is, beside writers that send messages of their own:
//
//   - A slot gives every transaction that commits behind its beginning, once each process that read it has died,
//     again from the last place that was confirmed. Only what the target has is saved, and only what is saved is
//     confirmed. So a transaction may be applied twice, and none is left out.
//   - A transaction becomes one state of each key, at one version: the place of its commit. For one row, a
//     writer's own version is at most that of its commit, and its successor's is greater. So the newest version is
//     the newest state, whichever way it came, and the target takes only newer ones.
//   - Where a state is not in the log as a whole, the row is read under its lock, at a version that is newer than
//     every commit that it shows, and older than every later one.
//   - What was before the slot, the backfill copies behind a barrier. The barrier's marker divides the log: what
//     commits before it the backfill sees, what commits behind it capture brings.
//
// A [Capture] is one goroutine that reads and reduces, one that answers the server, one that applies what was
// gathered meanwhile, and one that looks after the slot. None waits for another, but for memory.
package capture
