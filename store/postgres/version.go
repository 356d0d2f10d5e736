package postgres

// eraPrefix begins the name of the sequence that holds a migration's era.
const eraPrefix = "era:"

// VersionExpr is the SQL expression of the version of a write, for the RETURNING
// clause of the write itself: there it is computed under the row's lock, so that
// per row it grows in the order of commits. It costs a microsecond a row.
//
//	UPDATE products SET ... RETURNING id, ..., migrator_legacy.version('products')
//
// [version-at-lock]: in a separate statement it could be newer than a concurrent write's.
func VersionExpr(migration string) string {
	return "migrator_legacy.version(" + literal(migration) + ")"
}

// VersionColumnExpr is VersionExpr for a migration with a version column, whose
// quoted name or SQL expression it takes.
func VersionColumnExpr(migration, column string) string { return versionColumnExpr(migration, column) }

func versionColumnExpr(migration, value string) string {
	return "migrator_legacy.version(" + literal(migration) + ", " + value + "::int8)"
}

// positionSQL is the SQL of a version without its era. A server may refuse its functions: see rehearse.
const positionSQL = `lower(left(pg_walfile_name('0/1'), 8))
    || encode(pg_lsn_send(pg_current_wal_insert_lsn()), 'hex')`

// The functions of versions. Both are one plain expression, so that the planner
// inlines it: a function call costs twice as much, one with a sub-select four times.
//
// The era is a sequence, which is read outside of snapshots. So a transaction that began
// before a fence can't stamp its write with the era before the fence, and a fence that
// is rolled back only skips an era.
//
// Only the timeline of pg_walfile_name is used. It is the server's, not the argument's,
// and can't change while the server accepts writes.
// [version-at-lock]: VOLATILE, so that it is computed for each row as its lock is held.
// [version-era], [version-timeline]: both precede the LSN.
const versionFunctions = `
CREATE OR REPLACE FUNCTION migrator_legacy.version(migration text) RETURNS text
LANGUAGE sql VOLATILE PARALLEL UNSAFE AS $$
SELECT lpad(to_hex(pg_sequence_last_value(('migrator_legacy.' || quote_ident('era:' || migration))::regclass)), 8, '0')
    || ` + positionSQL + `
$$;
COMMENT ON FUNCTION migrator_legacy.version(text) IS 'version of the write whose RETURNING clause calls it: era, timeline, LSN';

CREATE OR REPLACE FUNCTION migrator_legacy.version(migration text, value int8) RETURNS text
LANGUAGE sql VOLATILE PARALLEL UNSAFE AS $$
SELECT lpad(to_hex(pg_sequence_last_value(('migrator_legacy.' || quote_ident('era:' || migration))::regclass)), 8, '0')
    || '00000000' || lpad(to_hex(value), 16, '0')
$$;
COMMENT ON FUNCTION migrator_legacy.version(text, int8) IS 'version of a write whose table has a version column: era, 0, its value';
`
