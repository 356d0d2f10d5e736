// Package drill rehearses the rollback: it makes the target fail where that is safe, under
// load, and checks everything that follows against what a rollback promises. A drill that
// could not observe something has failed: no data is no proof.
package drill
