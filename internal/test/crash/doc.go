// Package crash kills real processes between every two durable steps, at the
// places that failpoint.Here names, and lets whoever comes next go on: the same
// command, a rollback, the daemon. Whatever was left half done must then be done or
// undone, and no acknowledged write be lost.
//
// The names are read from the source: one without a scenario fails the test, and
// so does one that its scenario does not meet. One of them again:
//
//	go test -run 'TestCrash/control.fence.raised' ./internal/test/crash
//
// The short run takes each name once, and those of commands that move a migration
// twice. MIGRATOR_TORTURE=1m go test -run Torture crosses every name with all that
// may come next.
package crash
