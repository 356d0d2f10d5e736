package postgres

import "context"

// checkVersionColumn checks for a source of a deletion's version: it must be above the
// row's last version, so the row's own value is not enough. If no sequence is the
// column's default there is no such source, and a record that is created again may
// begin below its former version. A sequence that only the application uses is not
// visible here.
func (l *Legacy) checkVersionColumn(ctx context.Context, f *findings) error {
	if l.version == "" {
		return nil
	}
	var fed bool
	err := l.pool.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_attribute a
			WHERE a.attrelid = $1 AND a.attname = $2 AND (a.attidentity <> '' OR EXISTS (SELECT FROM pg_attrdef d
				JOIN pg_depend p ON p.classid = 'pg_attrdef'::regclass AND p.objid = d.oid AND p.refclassid = 'pg_class'::regclass
				JOIN pg_class s ON s.oid = p.refobjid AND s.relkind = 'S'
				WHERE d.adrelid = a.attrelid AND d.adnum = a.attnum)))
		OR EXISTS (SELECT FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
			WHERE t.tgrelid = $1 AND NOT t.tgisinternal AND p.prosrc ~* '\mnextval\M')`, l.shape.oid, l.version).Scan(&fed)
	if err != nil {
		return err
	}
	column := quote(l.version)
	if fed {
		f.good("legacy-version-column", "%s is fed by a sequence: a DELETE must return a number from it, too", column)
		return nil
	}
	f.warn("legacy-version-column", "leave legacy.version_column out, or a sequence that every write and every DELETE draws from: CREATE SEQUENCE ...; ALTER TABLE "+
		l.shape.name.Sanitize()+" ALTER COLUMN "+column+" SET DEFAULT nextval('...')",
		"no sequence feeds %s: a DELETE has no number to return that is above the row's last one, so the target would keep the record, and one that is made again may begin below its last version", column)
	return nil
}
