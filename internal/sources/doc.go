// Package sources has the sources of custom gates and triggers: a query to Prometheus, and
// a command's exit code.
package sources
