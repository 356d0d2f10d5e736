// Package drill rehearses the rollback: it has the target fail where that is safe,
// under load, and holds everything that follows against what a rollback promises. A
// drill that could not see something has failed: no data is no proof.
package drill
