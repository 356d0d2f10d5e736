package postgres

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/oneline"
	"github.com/stranglerfig/migrator/internal/pgfail"
	"github.com/stranglerfig/migrator/store"
)

// findings collects checks.
type findings []store.Check

func (f *findings) good(name, detail string, args ...any) {
	*f = append(*f, store.Check{Name: name, Result: store.Good, Detail: fmt.Sprintf(detail, args...)})
}

func (f *findings) warn(name, remedy, detail string, args ...any) {
	*f = append(*f, store.Check{Name: name, Result: store.Warned, Detail: fmt.Sprintf(detail, args...), Hint: hint.Hint{Text: remedy}})
}

func (f *findings) refuse(name, remedy, detail string, args ...any) {
	*f = append(*f, store.Check{Name: name, Result: store.Refused, Detail: fmt.Sprintf(detail, args...), Hint: hint.Hint{Text: remedy}})
}

// Clock differences, of this machine and a server's.
const (
	clockWarned  = time.Second
	clockRefused = 30 * time.Second
)

// checkServer runs the checks that legacy and target have in common.
func (f *findings) checkServer(ctx context.Context, pool *pgxpool.Pool, side string) error {
	var number int
	var standby bool
	var encoding, readOnly string
	sent := time.Now()
	var now time.Time
	err := pool.QueryRow(ctx, `SELECT current_setting('server_version_num')::int, pg_is_in_recovery(), current_setting('server_encoding'),
		current_setting('default_transaction_read_only'), clock_timestamp()`).Scan(&number, &standby, &encoding, &readOnly, &now)
	if err != nil {
		return err
	}
	took := time.Since(sent)
	switch major := number / 10000; {
	case number < pgfail.OldestServer:
		f.refuse(side+"-version", "upgrade to PostgreSQL 14 or later", "PostgreSQL %d is too old: 14 is the oldest that is supported", major)
	default:
		f.good(side+"-version", "PostgreSQL %d", major)
	}
	if standby {
		f.refuse(side+"-primary", "name the primary in "+side+".url (several hosts and target_session_attrs=read-write find it)", "the server is a standby: it takes no locks and no writes")
	} else {
		f.good(side+"-primary", "the server is a primary")
	}
	if readOnly == "on" {
		f.refuse(side+"-writes", "ALTER ROLE ... SET default_transaction_read_only = off", "transactions of this role are read-only")
	}
	if encoding != "UTF8" {
		f.warn(side+"-encoding", "move the database to UTF8, or make sure that all texts are", "the database's encoding is %s: texts that are not UTF-8 can't be moved", encoding)
	}
	switch off := (now.Sub(sent.Add(took/2)).Abs() - took/2).Round(time.Millisecond); {
	case off > clockRefused:
		f.refuse(side+"-clock", "synchronise both clocks (NTP)", "the server's clock and this machine's are %s apart", off)
	case off > clockWarned:
		f.warn(side+"-clock", "synchronise both clocks (NTP)", "the server's clock and this machine's are %s apart", off)
	default:
		f.good(side+"-clock", "the server's clock agrees with this machine's")
	}
	return nil
}

// checkKey refuses keys whose equal values have several texts: one row would be two
// records.
func (f *findings) checkKey(s *shape, side string) {
	for _, i := range s.key {
		c := s.columns[i]
		switch why := s.manyTexts(c, s.keyNames()); {
		case why != "":
			f.refuse(side+"-key", keyRemedy(c), "key column %q (%s) takes different texts as equal (%s): one row could be two records", c.name, c.declared, why)
		case c.overEnum():
			f.refuse(side+"-key", "ALTER TABLE ... ALTER COLUMN ... TYPE the enum itself", "key column %q (%s) is of a domain over an enum, which the server can't compare with a value of the enum", c.name, c.declared)
		default:
			f.good(side+"-key", "key column %q (%s)", c.name, c.declared)
		}
	}
}

// overEnum reports whether the column is of a domain over an enum. Other domains compare as their
// base does; the operators of enums don't look through one.
func (c *column) overEnum() bool {
	return c.typ.form == formDomain && c.typ.resolved().form == formEnum
}

func keyRemedy(c *column) string {
	switch {
	case c.base.array:
	case c.isBuiltIn("bpchar"):
		return "ALTER TABLE ... ALTER COLUMN ... TYPE text, or character(n)"
	case c.isBuiltIn("numeric"):
		return "ALTER TABLE ... ALTER COLUMN ... TYPE numeric(p, s)"
	}
	return "use a key of text or integer columns"
}

// checkTypes refuses columns whose values can't be moved, and warns of those that mean
// something to this database or this server alone.
func (f *findings) checkTypes(s *shape, side string) {
	odd := 0
	for _, c := range s.columns {
		number := c.typ.find(func(t *sqlType) bool { return t.builtIn("oid") || t.form == formDomain && t.extension == "lo" })
		money := c.typ.find(func(t *sqlType) bool { return t.builtIn("money") })
		switch why := c.typ.textLoses(false, s.server); {
		case why != "":
			odd++
			f.refuse(side+"-types", "exclude the column, or give it another type (text)", "column %q (%s) can't be moved: %s", c.name, c.declared, why)
		case number != nil:
			odd++
			f.warn(side+"-types", "exclude the column, or move large objects apart", "column %q (%s) has numbers of objects of its database, such as large objects: the numbers are moved, the objects are not", c.name, c.declared)
		case money != nil:
			odd++
			f.warn(side+"-types", "ALTER TABLE ... TYPE numeric, or exclude the column", "column %q (%s) is money: its text depends on lc_monetary, which both servers must share", c.name, c.declared)
		}
	}
	if odd == 0 {
		f.good(side+"-types", "%d columns", len(s.columns))
	}
}

func (f *findings) checkTable(s *shape, side string) {
	if s.unlogged {
		f.warn(side+"-table", "ALTER TABLE "+showTable(s.name)+" SET LOGGED", "%s is unlogged: a crash empties it", showTable(s.name))
	}
}

// checkLogged refuses a table whose versions are positions in the log that its changes do not move: two changes
// of a row in one transaction would have one version, and the target would keep the first.
func (l *Legacy) checkLogged(ctx context.Context, f *findings) error {
	if l.version != "" {
		f.checkTable(l.shape, "legacy")
		return nil
	}
	var names []string
	err := l.pool.QueryRow(ctx, `SELECT ARRAY(SELECT c.oid::regclass::text FROM pg_class c
		WHERE c.oid IN (SELECT $1::oid UNION SELECT relid FROM pg_partition_tree($1::oid::regclass)) AND c.relpersistence = 'u' ORDER BY 1)`, l.shape.oid).Scan(&names)
	if err == nil && len(names) > 0 {
		f.refuse("legacy-table", "ALTER TABLE "+oneline.Escape(names[0])+" SET LOGGED, or name a version_column",
			"%s is unlogged: its changes do not move the position in the log, which is their version, and a crash empties it", oneline.Escape(strings.Join(names, ", ")))
	}
	return err
}

// lacking returns which of the wanted table privileges the role lacks.
func (s *shape) lacking(ctx context.Context, pool *pgxpool.Pool, wanted ...string) ([]string, error) {
	var lacking []string
	for _, p := range wanted {
		var has bool
		if err := pool.QueryRow(ctx, "SELECT has_table_privilege($1::oid, $2)", s.oid, p).Scan(&has); err != nil {
			return nil, err
		}
		if !has {
			lacking = append(lacking, p)
		}
	}
	return lacking, nil
}

// checkPolicies refuses policies that hide rows: they make every read fail, since
// row_security is off.
func (f *findings) checkPolicies(ctx context.Context, pool *pgxpool.Pool, s *shape, side string) error {
	if !s.policies {
		return nil
	}
	var active bool
	if err := pool.QueryRow(ctx, "SELECT row_security_active($1::oid)", s.oid).Scan(&active); err != nil {
		return err
	}
	if active {
		f.refuse(side+"-policies", "use the table's owner, or ALTER ROLE ... BYPASSRLS", "row-level security hides rows of %s from this role", showTable(s.name))
	} else {
		f.good(side+"-policies", "row-level security does not apply to this role")
	}
	return nil
}

// canCreate reports whether the role may create the schema, or has it.
func canCreate(ctx context.Context, pool *pgxpool.Pool, schema string) (bool, error) {
	var may bool
	err := pool.QueryRow(ctx, `SELECT coalesce((SELECT has_schema_privilege(oid, 'CREATE') FROM pg_namespace WHERE nspname = $1),
		has_database_privilege(current_database(), 'CREATE'))`, schema).Scan(&may)
	return may, err
}

func currentUser(ctx context.Context, pool *pgxpool.Pool) string {
	var user string
	_ = pool.QueryRow(ctx, "SELECT quote_ident(current_user)").Scan(&user)
	return user
}

// sorted puts refusals first, then warnings.
func (f findings) sorted() []store.Check {
	rank := map[store.CheckResult]int{store.Refused: 0, store.Warned: 1, store.Good: 2}
	slices.SortStableFunc(f, func(a, b store.Check) int { return rank[a.Result] - rank[b.Result] })
	return f
}
