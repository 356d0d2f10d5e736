// Package torture runs whole migrations under faults: applications as real
// processes, private PostgreSQL and Redis servers, an operator who advances, rolls
// back and is killed in the middle of a command, and clients that write down every
// operation. The record is then held against the promises of docs/protocol.md.
//
// A short run is part of the tests. A long one, with the seed of a failure:
//
//	MIGRATOR_TORTURE=5m MIGRATOR_TORTURE_SEED=1234 go test -run Torture -v ./internal/torture
//
// The seed fixes what is done and when it is due; what it meets is up to the
// machine. So a failure comes back with its seed often, not always.
package torture
