package postgres

import (
	"context"
	"fmt"
	"strings"

	"github.com/stranglerfig/migrator/internal/humanize"
	"github.com/stranglerfig/migrator/store"
)

// Check implements store.Checker.
func (t *Target) Check(ctx context.Context) ([]store.Check, error) {
	var f findings
	f.good("target-table", "%s: %d columns, key (%s)", t.table(), len(t.shape.columns), t.shape.keyList())
	f.checkTable(t.shape, "target")
	f.checkKey(t.shape, "target")
	f.checkTypes(t.shape, "target")
	t.checkFields(&f)
	t.checkConversions(&f)
	if t.shape.rules {
		f.refuse("target-rules", "replace the rules by triggers, and DROP RULE", "%s has rewrite rules for INSERT or UPDATE, or instead of DELETE: PostgreSQL refuses the writes that need ON CONFLICT, and makes others of deletes", t.table())
	}
	for _, check := range []func() error{
		func() error { return f.checkServer(ctx, t.pool, "target") },
		func() error { return f.checkDurability(ctx, t.pool, "target") },
		func() error { return f.checkRoom(ctx, t.pool, "target") },
		func() error { return f.checkPolicies(ctx, t.pool, t.shape, "target") },
		func() error { return t.checkPrivileges(ctx, &f) },
		func() error {
			return f.checkSequences(ctx, t.pool, t.shape, "target", currentUser(ctx, t.pool), "the migration can't go beyond grace, where the target's next records would get numbers that are taken")
		},
		func() error { return t.checkContents(ctx, &f) },
	} {
		if err := check(); err != nil {
			return nil, fmt.Errorf("check target table %s: %w", t.table(), err)
		}
	}
	return f.sorted(), nil
}

// checkFields compares the columns with legacy's.
func (t *Target) checkFields(f *findings) {
	taken := map[string]bool{}
	for i, c := range t.shape.columns {
		field := t.shape.schema.Fields[i]
		taken[c.name] = true
		switch {
		case c.generated:
			f.warn("target-fields", "leave the field out, or ignore it in compare", "column %q is computed by the target: it is not written", c.name)
		case c.notNull && !field.NotNull:
			f.warn("target-fields", "ALTER TABLE "+t.shape.name.Sanitize()+" ALTER COLUMN "+quote(c.name)+" DROP NOT NULL",
				"column %q must not be null, legacy's %q may be", c.name, field.Name)
		}
	}
	var missing []string
	for i := range t.shape.table.columns {
		c := &t.shape.table.columns[i]
		if !taken[c.name] && c.notNull && !c.hasDefault && !c.generated && c.identity == "" {
			missing = append(missing, c.name)
		}
	}
	if len(missing) > 0 {
		f.refuse("target-fields", "give them a default, or let them be null", "columns %s of %s must not be null, and no field goes into them", strings.Join(missing, ", "), t.table())
	}
}

func (t *Target) checkPrivileges(ctx context.Context, f *findings) error {
	user := currentUser(ctx, t.pool)
	lacking, err := t.shape.lacking(ctx, t.pool, "SELECT", "INSERT", "UPDATE", "DELETE")
	if err != nil {
		return err
	}
	if len(lacking) > 0 {
		f.refuse("target-privileges", "GRANT "+strings.Join(lacking, ", ")+" ON "+t.shape.name.Sanitize()+" TO "+user,
			"%s lacks %s on %s", user, strings.Join(lacking, ", "), t.table())
	} else {
		f.good("target-privileges", "%s may read and write %s", user, t.table())
	}
	may, err := canCreate(ctx, t.pool, "migrator_target")
	if err != nil {
		return err
	}
	var there bool
	if err := t.pool.QueryRow(ctx, "SELECT to_regclass($1) IS NOT NULL", t.side).Scan(&there); err != nil {
		return err
	}
	switch {
	case there:
		f.good("target-schema", "the table of versions is there")
	case may:
		f.good("target-schema", "the table of versions can be created")
	default:
		f.refuse("target-schema", "GRANT CREATE ON DATABASE ... TO "+user, "%s may not create the schema migrator_target", user)
	}
	return nil
}

// countedRows is how many rows are counted at most.
const countedRows = 10_000

// checkContents warns of rows that are there before the first write.
func (t *Target) checkContents(ctx context.Context, f *findings) error {
	lacking, err := t.shape.lacking(ctx, t.pool, "SELECT")
	if err != nil || len(lacking) > 0 {
		return err
	}
	var prepared bool
	var rows int64
	err = t.pool.QueryRow(ctx, "SELECT to_regclass($1) IS NOT NULL, (SELECT count(*) FROM (SELECT FROM "+t.shape.name.Sanitize()+" LIMIT $2) AS counted)",
		t.side, countedRows+1).Scan(&prepared, &rows)
	if err == nil && rows > 0 && !prepared {
		count := humanize.Counted(rows, "row")
		if rows > countedRows {
			count = "more than " + humanize.Counted(countedRows, "row")
		}
		f.warn(store.ContentsCheck, "name another table in target.table if another program needs these rows, or empty it",
			"%s has %s that migrator did not write: a backfill and a repair replace those whose key legacy has; the others stay, and reconcile lists them", t.table(), count)
	}
	return err
}
