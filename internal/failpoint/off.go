//go:build !failpoints

// Package failpoint kills the process between two durable steps, by SIGKILL, in binaries built
// with the tag failpoints. In every other build Here is empty, and the program contains
// nothing of it, not even the names.
package failpoint

// Here names the place between two durable steps; names are literals, and each
// is used once in the module. See the build with the tag failpoints.
func Here(string) {}
