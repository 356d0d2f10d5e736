//go:build !failpoints

// Package failpoint ends the process between two durable steps, by SIGKILL, in
// binaries built for that with the tag failpoints. In every other build Here is
// empty, and nothing of it, not even the names, is in the program.
package failpoint

// Here names the place between two durable steps; names are literals, and each
// is used once in the module. See the build with the tag failpoints.
func Here(string) {}
