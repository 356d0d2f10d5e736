// Package peers measures what dual costs an application beside LaunchDarkly's Go
// migrator, on the same stores that do nothing. It is a module of its own, so that no
// other build needs that SDK: make peers.
package peers
