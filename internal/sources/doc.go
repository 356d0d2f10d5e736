// Package sources is evidence from outside: an expression asked of a Prometheus, a
// command's exit code, an alert that an Alertmanager sends. And the way out: a signed
// webhook.
package sources
