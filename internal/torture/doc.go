// Package torture runs whole migrations under faults: applications and daemons as
// real processes, private PostgreSQL and Redis servers behind bad wires, an operator
// who advances, rolls back and is killed in the middle of a command, and clients
// that write down every operation. The record is then held against the promises of
// docs/protocol.md: no acknowledged write lost, no read older than one, the
// target's versions only growing, the history's chain whole, both stores equal
// after a repair.
//
// A short run is part of the tests. A long one, or the seed of a failure again:
//
//	MIGRATOR_TORTURE=5m MIGRATOR_TORTURE_SEED=1234 go test -run 'TestTorture$' -v ./internal/torture
//
// The seed fixes what is done, in which order and how long it lasts; what it meets
// is up to the machine. So a failure comes back with its seed often, not always.
// MIGRATOR_TORTURE_STORY=1 keeps what happened also where all was well.
package torture
