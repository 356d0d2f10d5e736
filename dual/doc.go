// Package dual is what an application embeds to take part in a migration: an Instance
// that keeps a lease and follows the present route, a Reader that answers from the store
// that the route names, and a Writer that keeps the target up to date with legacy.
//
//	instance, err := dual.Join(ctx, dual.Config{Fleet: fleet})
//	reader, err := dual.NewReader(dual.ReaderConfig[int64, Product]{Instance: instance, ...})
//	writer, err := dual.NewWriter(dual.WriterConfig[int64, Product]{Instance: instance, ...})
//	group.Go(func() error { return instance.Run(ctx) })
//
// In the phase legacy an operation costs a pointer, two counters and nothing else.
// A process may take part in any number of migrations: one Instance for each.
//
// # What the application owes
//
//   - Every write of the records goes through a Writer, on every instance. Writes
//     that bypass it are found by reconcile, not by this package.
//   - Run returns after the last operation: end its context after the server has
//     stopped. Later operations get ErrLeft.
//   - The closure that writes legacy commits before it returns, returns every
//     record it changed (old and new keys), each with the version that the write
//     itself gave it, and may be called again after legacy's fence refused it.
//   - What Update returns must be computed from its arguments alone.
//
// docs/protocol.md gives the reason for each rule.
package dual
