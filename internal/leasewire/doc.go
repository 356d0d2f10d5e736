// Package leasewire has the JSON documents of the lease API: what an instance and a daemon send each other over HTTP.
// An instance in another language sends the same: docs/api.md is made of these types.
package leasewire
