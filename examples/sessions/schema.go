package sessions

import "errors"

// ErrNoSession is returned by writes of a session that does not exist.
var ErrNoSession = errors.New("no such session")

// Schema is the table as it was before the migration.
const Schema = `CREATE TABLE sessions (token text PRIMARY KEY, user_id bigint NOT NULL, expires timestamptz NOT NULL)`
