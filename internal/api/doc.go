// Package api has the operations of the HTTP API: what each does in the state, for a caller's token. The table of them is
// List; package server serves it, and the OpenAPI document and docs/api.md are made of it.
package api
