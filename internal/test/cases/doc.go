// Package cases tests faults from start to end on real servers: a store that loses data
// or goes back in time, a write that is slow, large or frozen, an instance that is cut
// off. Each test asserts the correct behaviour.
//
// The tests under the build tag cases fail on the present product: the comment of each
// describes the fault. make cases runs them. Remove the tag from a test that passes: it
// then belongs to the regular suite.
package cases
