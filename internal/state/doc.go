// Package state is the operators' side of the state database: each migration's
// status, transitions, leases, history, evaluations and observations, and the schema.
// Runs of backfills, reconciles, drills and runbooks have packages of their own below
// it. Applications use dual/pgfleet. The locks are described in internal/statedb.
package state
