// Package torture runs whole migrations under faults: applications and daemons as
// real processes, private PostgreSQL and Redis servers behind bad wires, an operator
// who advances, rolls back and is killed in the middle of a command, and clients
// that write down every operation. The record is then held against the promises of
// docs/protocol.md: no acknowledged write lost, no read older than one, the
// target's versions only growing, the history's chain whole, both stores equal
// after a repair.
//
// Instances write down the route that each operation ran under, so that it is seen,
// not supposed, that only compatible ones were ever under way together. A write
// that its instance acknowledged as an exception to the promises (degraded, or
// beyond the budget of its rollback) excuses stale reads of its key from its
// acknowledgement until the state was seen with that key repaired or the target no
// longer read; these reads are counted, and all others fail the run. What a
// rollback and a dead target take is measured, in peace and among faults.
//
// Not done: an eviction of an instance that is only frozen. The operator's word is
// then wrong, and nothing is promised that rests on it.
//
// A short run is part of the tests. A long one fails unless it comes to 10,000
// operations and 20 faults a minute. `make torture` runs it for each policy; by hand,
// or with the seed of a failure again:
//
//	MIGRATOR_TORTURE=5m MIGRATOR_TORTURE_SEED=1234 MIGRATOR_TORTURE_POLICY=fail go test -run 'TestTorture$' -v ./internal/test/torture
//
// MIGRATOR_TORTURE_TARGET=postgres or redis fixes the target's kind, of which every
// fourth round has PostgreSQL; MIGRATOR_TORTURE_REPORT names a file for the report
// as JSON. The seed fixes what is done, in which order and how long it lasts; what it
// meets is up to the machine. So a failure comes back with its seed often, not
// always. MIGRATOR_TORTURE_STORY=1 keeps what happened also where all was well.
package torture
