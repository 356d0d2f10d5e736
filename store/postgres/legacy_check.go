package postgres

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/stranglerfig/migrator/internal/pgfail"
	"github.com/stranglerfig/migrator/store"
)

// Check implements store.Checker: it reports what would make a later step fail.
func (l *Legacy) Check(ctx context.Context) ([]store.Check, error) {
	var f findings
	f.good("legacy-table", "%s: %d columns, key (%s)", l.table(), len(l.shape.columns), l.shape.keyList())
	f.checkKey(l.shape, "legacy")
	f.checkTypes(l.shape, "legacy")
	l.checkReturn(&f)
	for _, check := range []func() error{
		func() error { return l.checkLogged(ctx, &f) },
		func() error { return f.checkServer(ctx, l.pool, "legacy") },
		func() error { return f.checkDurability(ctx, l.pool, "legacy") },
		func() error { return f.checkRoom(ctx, l.pool, "legacy") },
		func() error { return f.checkPolicies(ctx, l.pool, l.shape, "legacy") },
		func() error { return l.checkUnknownTypes(ctx, &f) },
		func() error { return l.checkSharing(ctx, &f) },
		func() error { return l.checkPrivileges(ctx, &f) },
		func() error {
			return f.checkSequences(ctx, l.pool, l.shape, "legacy", currentUser(ctx, l.pool), "a rollback from retain could not write back")
		},
		func() error { return l.checkLog(ctx, &f) },
		func() error { return l.checkStandbys(ctx, &f) },
		func() error { return l.checkPrepared(ctx, &f) },
		func() error { return l.checkVersionColumn(ctx, &f) },
		func() error { return l.rehearse(ctx, &f) },
	} {
		if err := check(); err != nil {
			return nil, fmt.Errorf("check legacy table %s: %w", l.table(), err)
		}
	}
	return f.sorted(), nil
}

func (l *Legacy) checkPrivileges(ctx context.Context, f *findings) error {
	user, table := currentUser(ctx, l.pool), l.shape.name.Sanitize()
	lacking, err := l.shape.lacking(ctx, l.pool, "SELECT", "INSERT", "UPDATE", "DELETE")
	if err != nil {
		return err
	}
	grant := "GRANT " + strings.Join(lacking, ", ") + " ON " + table + " TO " + user
	switch {
	case slices.Contains(lacking, "SELECT"), slices.Contains(lacking, "UPDATE"):
		f.refuse("legacy-privileges", grant, "%s lacks %s on %s (UPDATE is for reading rows under their locks)", user, strings.Join(lacking, ", "), l.table())
	case len(lacking) > 0:
		f.warn("legacy-privileges", grant, "%s lacks %s on %s: a rollback from retain could not write back", user, strings.Join(lacking, ", "), l.table())
	default:
		f.good("legacy-privileges", "%s may read, lock and write %s", user, l.table())
	}
	var owner, super, member bool
	if err := l.pool.QueryRow(ctx, `SELECT pg_has_role($1::text::regrole, 'USAGE'), (SELECT rolsuper FROM pg_roles WHERE rolname = $2), pg_has_role($1::text::regrole, 'MEMBER')`,
		quote(l.shape.owner), l.shape.owner).Scan(&owner, &super, &member); err != nil {
		return err
	}
	grant = "GRANT " + quote(l.shape.owner) + " TO " + user
	switch {
	case member && l.shape.server >= 160000: // the membership does not give its privileges
		grant += " WITH INHERIT TRUE"
	case member:
		grant = "ALTER ROLE " + user + " INHERIT"
	}
	switch {
	case owner:
		f.good("legacy-fence", "%s may fence %s", user, l.table())
	case super: // a role that is granted a superuser is one
		f.warn("legacy-fence", "a role that owns the table and nothing else: CREATE ROLE table_owner NOLOGIN; ALTER TABLE "+table+" OWNER TO table_owner; GRANT table_owner TO "+user+
			"; or run the step from grace to retain, and its rollback, as the owner",
			"%s does not own %s (a superuser does): it can't raise the fence, so the migration can't go beyond grace", user, l.table())
	default:
		f.warn("legacy-fence", grant, "%s does not own %s: it can't raise the fence, so the migration can't go beyond grace", user, l.table())
	}
	may, err := canCreate(ctx, l.pool, "migrator_legacy")
	switch {
	case err != nil:
		return err
	case may:
		f.good("legacy-schema", "migrator's schema can be created")
	default:
		var there bool
		if err := l.pool.QueryRow(ctx, "SELECT to_regclass($1) IS NOT NULL", l.era()).Scan(&there); err != nil {
			return err
		}
		if there {
			f.good("legacy-schema", "migrator's schema is installed")
		} else {
			f.refuse("legacy-schema", "GRANT CREATE ON DATABASE ... TO "+user+", or let the database's owner apply the migration file", "%s may not create the schema migrator_legacy", user)
		}
	}
	return nil
}

func (l *Legacy) checkLog(ctx context.Context, f *findings) error {
	var level string
	var system bool
	if err := l.pool.QueryRow(ctx, "SELECT current_setting('wal_level'), has_function_privilege('pg_control_system()', 'EXECUTE')").Scan(&level, &system); err != nil {
		return err
	}
	if level == "logical" {
		f.good("legacy-wal-level", "wal_level is logical")
	} else {
		f.warn("legacy-wal-level", "ALTER SYSTEM SET wal_level = logical, or so in the parameters of a managed server, and restart", "wal_level is %s: change capture is not possible, the application's own writes are", level)
	}
	if !system {
		f.warn("legacy-system", "GRANT EXECUTE ON FUNCTION pg_control_system() TO ...", "the role may not read the server's identifier: a restore or pg_upgrade would not be noticed")
	}
	switch l.shape.identity {
	case "n":
		f.warn("legacy-replica-identity", "ALTER TABLE "+l.shape.name.Sanitize()+" REPLICA IDENTITY DEFAULT", "the table has no replica identity: change capture would not see updates and deletions")
	case "d":
		if len(l.shape.primary) == 0 {
			f.warn("legacy-replica-identity", "ALTER TABLE "+l.shape.name.Sanitize()+" REPLICA IDENTITY USING INDEX ...", "the table has no primary key: change capture needs a replica identity")
		}
	}
	return nil
}

// checkReturn warns of columns for which a rollback from retain would have no value.
func (l *Legacy) checkReturn(f *findings) {
	var missing []string
	for i := range l.shape.table.columns {
		c := &l.shape.table.columns[i]
		if c.notNull && !c.hasDefault && !c.generated && c.identity == "" && l.shape.schema.Index(c.name) < 0 {
			missing = append(missing, c.name)
		}
	}
	if len(missing) > 0 {
		f.warn("legacy-return", "move these columns too, or give them a default", "columns %s are not moved but must not be null: a rollback from retain could not insert what is new in the target", strings.Join(missing, ", "))
	}
}

// sampledValues are how many values of a column checkUnknownTypes reads.
const sampledValues = 1000

// checkUnknownTypes reads the texts of some values of types that nothing is known of as values
// again: whatever a text does not hold would be lost by a return.
func (l *Legacy) checkUnknownTypes(ctx context.Context, f *findings) error {
	if lacking, err := l.shape.lacking(ctx, l.pool, "SELECT"); err != nil || len(lacking) > 0 {
		return err
	}
	for _, c := range l.shape.columns {
		t := c.typ.find((*sqlType).unknown)
		if t == nil {
			continue
		}
		var lost int
		err := l.pool.QueryRow(ctx, "SELECT count(*) FILTER (WHERE record_image_ne(ROW(t."+quote(c.name)+"), ROW("+c.input(c.printed("t."))+"))) FROM (SELECT "+quote(c.name)+
			" FROM "+l.shape.name.Sanitize()+" LIMIT "+strconv.Itoa(sampledValues)+") t").Scan(&lost)
		switch {
		case err != nil && pgfail.SQLState(err) == "":
			return err
		case err != nil:
			f.refuse("legacy-types", "exclude the column, or give it another type", "column %q (%s) can't be moved: the server does not read what it prints of type %s (SQLSTATE %s)", c.name, c.declared, t.name, pgfail.SQLState(err))
		case lost > 0:
			f.refuse("legacy-types", "exclude the column, or give it another type", "column %q (%s) can't be moved: the text of type %s does not hold its value (%d of at most %d values)", c.name, c.declared, t.name, lost, sampledValues)
		default:
			f.good("legacy-types", "column %q (%s): what it prints of type %s it reads back", c.name, c.declared, t.name)
		}
	}
	return nil
}
