// Package crash kills real processes between every two durable steps, at the places that
// failpoint.Here names, and then recovers: with the same command, a rollback, or the daemon.
// Every half-done step must then be completed or undone, and no acknowledged write be lost.
//
// The names are read from the source. A name without a scenario fails the test, and so does a
// name that its scenario does not pass. To repeat one of them:
//
//	go test -run 'TestCrash/control.fence.raised' ./internal/test/crash
//
// The short run uses each name once, and those of commands that move a migration twice.
// MIGRATOR_TORTURE=1m go test -run Torture combines every name with every recovery.
package crash
