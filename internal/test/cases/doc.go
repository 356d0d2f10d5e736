// Package cases holds faults as whole stories on real servers: a store that forgets
// or goes back in time, a write that is slow, large or frozen, an instance that is
// cut off. Each test asserts what is right.
//
// The tests under the build tag cases fail on the product as it is: each names, in
// its comment, what goes wrong. make cases runs them. One that passes loses the tag,
// and belongs to the regular suite from then on.
package cases
