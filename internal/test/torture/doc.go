// Package torture runs whole migrations under faults: applications and daemons as real
// processes, private PostgreSQL and Redis servers behind faulty proxies, an operator that
// advances, rolls back and is killed in the middle of a command, and clients that record every
// operation. The record is then checked against the promises of docs/protocol.md: no
// acknowledged write lost, no read older than one, the target's versions only growing, the
// history's chain whole, both stores equal after a repair.
//
// Instances record the route of each operation, so that the run verifies that only compatible
// routes were ever in use together. A write that its instance acknowledged as an exception to
// the promises (degraded, or beyond the budget of its rollback) allows stale reads of its key
// from its acknowledgement until the state showed that key repaired or the target no longer
// read. These reads are counted; any other stale read fails the run. The duration of rollbacks
// and the effect of a dead target are measured, alone and among other faults.
//
// Not covered: an eviction of an instance that is only frozen. The operator's confirmation is
// then false, and no promise applies.
//
// A short run is part of the tests. A long run fails unless it makes 10,000 operations and 20
// faults a minute. `make torture` runs it for each policy; by hand, or to repeat the seed of a
// failure:
//
//	MIGRATOR_TORTURE=5m MIGRATOR_TORTURE_SEED=1234 MIGRATOR_TORTURE_POLICY=fail go test -run 'TestTorture$' -v ./internal/test/torture
//
// MIGRATOR_TORTURE_TARGET=postgres or redis fixes the target's kind; by default every fourth
// round uses PostgreSQL. MIGRATOR_TORTURE_REPORT names a file for the report as JSON. The seed
// fixes the actions, their order and their durations, but not the machine's scheduling. So a
// failure repeats with its seed often, not always. MIGRATOR_TORTURE_STORY=1 keeps the event
// log also if the run passes.
package torture
