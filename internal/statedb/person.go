package statedb

import "context"

// Person is the SQL of who calls: the role of the context's token, else the session's. A schema that is old enough to
// be rolled back on has no function of that name, and no tokens.
func Person(ctx context.Context) string {
	if _, ok := ctx.Value(tokenKey{}).(string); ok {
		return `migrator.person()`
	}
	return `session_user`
}
