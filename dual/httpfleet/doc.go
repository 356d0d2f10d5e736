// Package httpfleet connects an application's instance to the migrator's state by the HTTP API of its daemons: a Fleet is
// the [dual.Fleet] of one migration. The application has a token, and neither a URL nor a session of the state database;
// what the token may do is what its role may do there.
//
// A lease lives in the state database, and any daemon serves it: a Fleet has the addresses of several, and continues with
// the next one when a request fails. Each request can be repeated, so none is lost or done twice.
//
// What is sent is described in docs/api.md, for instances in other languages.
package httpfleet
