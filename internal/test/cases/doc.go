// Package cases tests faults from start to end on real servers: a store that loses data
// or goes back in time, a write that is slow, large or frozen, an instance that is cut
// off. Each test asserts the correct behaviour. TestTortureLosses, of make torture, lets stores
// forget one after the other under clients that know what was acknowledged.
package cases
