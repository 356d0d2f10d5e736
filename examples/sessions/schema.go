package sessions

// Schema is the table as it was before the migration.
const Schema = `CREATE TABLE sessions (token text PRIMARY KEY, user_id bigint NOT NULL, expires timestamptz NOT NULL)`
