package postgres

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/stranglerfig/migrator/internal/oneline"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

var _ store.PairChecker = (*Target)(nil)

// CheckPair implements store.PairChecker: what the target may refuse, change or take as one, where
// legacy does not.
func (t *Target) CheckPair(ctx context.Context, legacy store.Legacy) ([]store.Check, error) {
	l, ok := legacy.(*Legacy)
	if !ok {
		return nil, nil
	}
	from, err := examine(ctx, l.pool, l.shape.table)
	if err != nil {
		return nil, err
	}
	to, err := examine(ctx, t.pool, t.shape.table)
	if err != nil {
		return nil, err
	}
	p := &pairCheck{legacy: l.shape, target: t.shape, from: from, to: to}
	p.checkSizes()
	p.checkUnique()
	p.checkConstraints()
	p.checkTriggers()
	p.checkVersions()
	for _, x := range []*examined{from, to} {
		side := map[bool]string{true: "legacy", false: "target"}[x == from]
		for _, why := range x.warnings {
			p.warn(side+"-storage", "", "%s", why)
		}
		for _, why := range x.odd {
			p.refuse(side+"-storage", "name a table without it", "%s", why)
		}
	}
	rows, err := l.someRows(ctx)
	switch {
	case hasState(err, statePrivilege): // a check of its own says so
	case err != nil:
		return p.sorted(), fmt.Errorf("read a record of legacy table %s: %w", l.table(), withoutValue(err))
	default:
		if err := t.rehearse(ctx, p, rows); err != nil {
			return p.sorted(), fmt.Errorf("rehearse a write to target table %s: %w", t.table(), withoutValue(err))
		}
	}
	return p.sorted(), nil
}

// pairCheck is a legacy table and the target's.
type pairCheck struct {
	findings
	legacy, target *shape
	from, to       *examined
}

// keyColumns are the target's.
func (p *pairCheck) keyColumns() []string {
	names := make([]string, len(p.target.key))
	for n, i := range p.target.key {
		names[n] = p.target.columns[i].name
	}
	return names
}

// checkSizes compares the lengths, scales, precisions and labels of the key's types. A key must
// read back as it was written: else its record is one that legacy does not have.
func (p *pairCheck) checkSizes() {
	before := len(p.findings)
	for _, i := range p.target.key {
		is, was := p.target.columns[i], p.legacy.columns[i]
		if why := narrower(was, is, p.from.sizes[was.name], p.to.sizes[is.name]); why != "" {
			p.refuse("target-key", "ALTER TABLE "+p.target.name.Sanitize()+" ALTER COLUMN "+quote(is.name)+" TYPE "+was.declared,
				"key column %q is of type %s, legacy's %q of type %s: %s, and a key must read the same in both", is.name, is.declared, was.name, was.declared, why)
		}
	}
	if len(p.findings) == before {
		p.good("target-key", "the key's types are not narrower than legacy's")
	}
}

// narrower is why a value of legacy's column may not read back the same from the target's, or be
// refused; "" if each does. Both are of the same kind.
func narrower(was, is *column, from, to columnSize) string {
	switch {
	case len(from.labels) > 0:
		for _, label := range from.labels {
			if len(to.labels) > 0 && !slices.Contains(to.labels, label) {
				return fmt.Sprintf("its enum lacks the label %q", label)
			}
		}
		return ""
	case was.base.schema != "pg_catalog" || is.base.schema != "pg_catalog":
		if was.base.name != is.base.name {
			return "values may read differently"
		}
		return ""
	}
	name := is.base.name
	switch is.scalarKind() {
	case record.Int:
		if width := map[string]int{"int2": 2, "int4": 4, "int8": 8}; width[name] < width[was.base.name] {
			return "large numbers are refused"
		}
	case record.Decimal:
		return narrowerNumeric(from.typmod, to.typmod)
	case record.Text:
		return narrowerText(was.base.name, name, from.typmod, to.typmod)
	case record.Timestamp, record.TimestampTZ, record.TimeOfDay:
		if was.base.name != name {
			return "values may read differently"
		}
		if precision(to.typmod) < precision(from.typmod) {
			return "times are rounded"
		}
	case record.Float, record.Float32:
		if was.base.name != name {
			return "values may read differently"
		}
	default:
		switch {
		case was.base.name == "bit" && name == "varbit", was.base.name == name && name == "varbit":
			if to.typmod >= 0 && (from.typmod < 0 || from.typmod > to.typmod) {
				return "longer values are refused"
			}
		case was.base.name != name:
			return "values may read differently"
		case from.typmod != to.typmod && name != "interval":
			return "values may be cut or refused"
		}
	}
	return ""
}

// scalarKind is the kind of a column, or of the elements of an array.
func (c *column) scalarKind() record.Kind {
	if c.format.kind == record.Array {
		return c.format.element
	}
	return c.format.kind
}

// A type's length is 4 less than its modifier, as PostgreSQL has it.
const headerSize = 4

func precision(typmod int32) int32 {
	if typmod < 0 {
		return 6
	}
	return typmod
}

func narrowerNumeric(from, to int32) string {
	if to < 0 {
		return "" // any digits, as they are written
	}
	if from < 0 {
		return "numbers are rounded to its scale, and large ones refused"
	}
	split := func(typmod int32) (digits, scale int32) {
		typmod -= headerSize
		scale = (typmod&0x7ff ^ 1024) - 1024
		return typmod>>16&0xffff - scale, scale
	}
	fromDigits, fromScale := split(from)
	toDigits, toScale := split(to)
	switch {
	case toScale < fromScale:
		return "numbers are rounded to its scale"
	case toDigits < fromDigits:
		return "large numbers are refused"
	case toScale > fromScale:
		return "numbers are printed with more decimals"
	}
	return ""
}

// nameLength is the longest name in bytes.
const nameLength = 63

func narrowerText(was, is string, from, to int32) string {
	length := func(typmod int32) int32 {
		if typmod < 0 {
			return 1 << 30
		}
		return typmod - headerSize
	}
	longest := length(from)
	if was == "name" {
		longest = nameLength
	}
	switch {
	case is == "name" && was != "name":
		return "texts are cut to 63 bytes"
	case is == "name":
		return ""
	case is == "bpchar" && (was != "bpchar" || from != to) && to >= 0:
		return "shorter texts are padded with blanks, and longer ones refused"
	case is == "bpchar":
		return "" // without a length: nothing is padded
	case longest > length(to):
		return "longer texts are refused"
	}
	return ""
}

// fieldOf maps the target's columns to legacy's; "" for one that is not moved.
func (p *pairCheck) fieldOf(column string) string {
	for i, c := range p.target.columns {
		if c.name == column {
			return p.legacy.columns[i].name
		}
	}
	return ""
}

// checkUnique looks for unique indexes under which the target takes two of legacy's records as one.
// ON CONFLICT names columns alone, so that the server arbitrates by any unique index over them,
// whatever its collation: the second record would replace the first.
func (p *pairCheck) checkUnique() {
	key, before := p.keyColumns(), len(p.findings)
	for _, u := range p.to.unique {
		inKey := among(u.columns, key) && among(u.reads, key)
		whole := u.plain() && inKey && len(u.columns) == len(key)
		covers := u.plain() && !u.loose() && among(key, u.columns) // two records differ in it already
		switch {
		case covers || p.hasUnique(u):
		case inKey && (len(u.columns) > 0 || len(u.reads) > 0):
			p.refuse("target-unique", "DROP INDEX or DROP CONSTRAINT, or make legacy's as strict",
				"%s of %s takes different keys of legacy as one%s", u.describe(), showTable(p.target.name), looseWhy(whole))
		default:
			p.warn("target-unique", "drop it, or add it to legacy and see whether all records keep it",
				"legacy has not the %s of %s: records that break it are refused", u.describe(), showTable(p.target.name))
		}
	}
	if len(p.findings) == before {
		p.good("target-unique", "no unique index of %s is stricter than legacy's", showTable(p.target.name))
	}
}

func looseWhy(whole bool) string {
	if whole {
		return ": it does not compare as the type does"
	}
	return ""
}

func among(some, all []string) bool {
	for _, one := range some {
		if !slices.Contains(all, one) {
			return false
		}
	}
	return true
}

// hasUnique reports whether legacy enforces all that the target's index does.
func (p *pairCheck) hasUnique(u uniqueIndex) bool {
	moved := func(columns []string) (names []string) {
		for _, c := range columns {
			names = append(names, p.fieldOf(c))
		}
		return names
	}
	columns, defs := moved(u.columns), slices.Clone(u.defs)
	for i, def := range defs {
		if field := p.fieldOf(def); field != "" {
			defs[i] = field
		}
	}
	nullable := slices.ContainsFunc(columns, func(name string) bool { c := p.legacy.column(name); return c == nil || !c.notNull })
	for _, is := range p.from.unique {
		nulls := !u.nullsSame || is.nullsSame || !nullable
		switch {
		case !nulls:
		case is.plain() && is.condition == "" && u.plain() && !u.loose() && len(is.columns) > 0 && among(is.columns, columns) && !slices.Contains(columns, ""):
			return true
		case is.exclusion == u.exclusion && slices.Equal(is.defs, defs) && slices.Equal(is.how, u.how) && (is.condition == "" || is.condition == u.condition):
			return true
		}
	}
	return false
}

func (p *pairCheck) checkConstraints() {
	before := len(p.findings)
	theirs := func(all []tableConstraint, c tableConstraint) bool {
		return slices.ContainsFunc(all, func(is tableConstraint) bool { return is.text == c.text })
	}
	table := showTable(p.target.name)
	for _, c := range p.to.checks {
		foreign := strings.HasPrefix(c.text, "FOREIGN KEY")
		switch {
		case foreign:
			p.warn("target-constraints", "move the other table first, or drop the constraint until the migration is complete",
				"%s has the foreign key %s (%s): a record is refused while the row that it refers to is not there", table, quote(oneline.Escape(c.name)), oneline.Escape(c.text))
		case !theirs(p.from.checks, c):
			p.warn("target-constraints", "drop it, or add it to legacy and see whether all records keep it",
				"%s has the constraint %s (%s), which legacy has not: records that break it are refused", table, quote(oneline.Escape(c.name)), oneline.Escape(c.text))
		}
	}
	for _, c := range p.to.referrer {
		if !theirs(p.from.referrer, c) {
			p.warn("target-constraints", "drop it until the migration is complete",
				"the foreign key %s (%s) refers to %s: deletes may be refused, or delete more", quote(oneline.Escape(c.name)), oneline.Escape(c.text), table)
		}
	}
	for i, c := range p.target.columns {
		if c.identity == "a" && !slices.Contains(p.target.key, i) {
			p.warn("target-constraints", "ALTER TABLE "+p.target.name.Sanitize()+" ALTER COLUMN "+quote(c.name)+" SET GENERATED BY DEFAULT",
				"column %q of %s is GENERATED ALWAYS AS IDENTITY: it takes a new record's value, and no change of it", c.name, table)
		}
	}
	if len(p.findings) == before {
		p.good("target-constraints", "%s has no constraint that legacy has not", table)
	}
}

func (p *pairCheck) checkTriggers() {
	var before, others []string
	for _, tr := range p.to.triggers {
		if tr.before {
			before = append(before, quote(oneline.Escape(tr.name)))
		} else {
			others = append(others, quote(oneline.Escape(tr.name)))
		}
	}
	table := showTable(p.target.name)
	const remedy = "ALTER TABLE ... DISABLE TRIGGER until the migration is complete, or let it pass what migrator's role writes"
	switch {
	case len(before) > 0:
		p.warn("target-triggers", remedy, "%s has row triggers that may change or drop what is written: %s", table, strings.Join(before, ", "))
	case len(others) == 0:
		p.good("target-triggers", "no trigger of %s acts on what is written", table)
	}
	if len(others) > 0 {
		p.warn("target-triggers", remedy, "%s has triggers that act once more on what the application did, or may refuse it: %s", table, strings.Join(others, ", "))
	}
}

// later are values that older servers do not know.
var later = []struct {
	since  int
	what   string
	column func(c *column, size columnSize) bool
}{
	{170000, "the interval infinity", func(c *column, _ columnSize) bool { return c.scalarKind() == record.Interval }},
	{150000, `bytes of "char" above 7F`, func(c *column, _ columnSize) bool { return c.base.schema == "pg_catalog" && c.base.name == "char" }},
	{140000, "the numeric infinity", func(c *column, size columnSize) bool { return c.scalarKind() == record.Decimal && size.typmod < 0 }},
}

// checkVersions warns of values that a target older than legacy refuses or reads as others.
func (p *pairCheck) checkVersions() {
	before := len(p.findings)
	for _, v := range later {
		if p.to.version >= v.since || p.from.version < v.since {
			continue
		}
		for i, c := range p.legacy.columns {
			if v.column(c, p.from.sizes[c.name]) && !p.target.columns[i].generated {
				p.warn("target-versions", "upgrade the target, or make sure that no record has it",
					"column %q may hold %s, which PostgreSQL %d does not know and legacy's %d does", c.name, v.what, p.to.version/10000, p.from.version/10000)
			}
		}
	}
	if len(p.findings) == before && p.to.version < p.from.version {
		p.good("target-versions", "PostgreSQL %d knows all values of legacy's %d in these columns", p.to.version/10000, p.from.version/10000)
	}
}

// rehearsed is how many records a rehearsal writes.
const rehearsed = 3

// someRows reads records as they are, in no order.
func (l *Legacy) someRows(ctx context.Context) ([]store.Row, error) {
	rows, err := l.pool.Query(ctx, "SELECT "+l.shape.list("t.")+" FROM "+l.shape.name.Sanitize()+" t LIMIT $1", textResults, rehearsed)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var found []store.Row
	d := l.shape.decoder()
	for rows.Next() {
		row, err := d.row(rows.RawValues())
		if err != nil {
			return nil, err
		}
		found = append(found, store.Row{Key: record.Key(strings.Clone(string(row.Key))), Found: true, Record: row.Record.Clone()})
	}
	return found, rows.Err()
}

// rehearse writes records of legacy as Apply does, one by one, reads them back, and rolls back: only
// the server knows what a constraint, a trigger or an index makes of them.
func (t *Target) rehearse(ctx context.Context, p *pairCheck, rows []store.Row) error {
	lacking, err := t.shape.lacking(ctx, t.pool, "SELECT", "INSERT", "UPDATE")
	if err != nil || len(lacking) > 0 || t.shape.rules || len(rows) == 0 {
		return err
	}
	for _, row := range rows {
		changed, err := t.rehearseOne(ctx, row)
		switch {
		case err == nil && changed != "":
			p.refuse("target-rehearsal", "compare the key's columns, and see the triggers", "%s", changed)
		case err == nil:
			continue
		case hasState(err, stateLockNotAvailable, stateDeadlock, stateSerialization):
		case writeFault(err):
			p.warn("target-rehearsal", "see the constraints and triggers of "+t.table(), "key %q of legacy is refused: %v", row.Key, withoutValue(err))
		case isServers(err):
			p.refuse("target-rehearsal", "see the constraints and triggers of "+t.table(), "a write fails: %v", withoutValue(err))
		default:
			return err
		}
		return nil // the others have mostly the same fault
	}
	p.good("target-rehearsal", "%d records of legacy were written, read back and rolled back", len(rows))
	return nil
}

// rehearseOne returns how the target changed the record.
func (t *Target) rehearseOne(ctx context.Context, row store.Row) (changed string, err error) {
	q := t.shape.keyQuery([]record.Key{row.Key}, []int{0}, nil)
	if len(q.at) == 0 {
		return fmt.Sprintf("key %q does not fit the key of %s", row.Key, t.table()), nil
	}
	conn, err := t.pool.Acquire(ctx)
	if err != nil {
		return "", err
	}
	defer conn.Release()
	pg := conn.Conn().PgConn()
	defer func() { rollBack(ctx, pg) }()
	w := newPipeline("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE")
	w.add(nil, "SELECT set_config('lock_timeout', '1s', true)")
	if err := t.addPut(w, []store.Write{{Key: row.Key, Record: row.Record}}, []int{0}); err != nil {
		return "", err
	}
	read := false
	w.add(func(v [][]byte) error {
		key, err := t.shape.keyOf(v)
		read = err == nil && key == row.Key
		return err
	}, "SELECT "+t.keyListOf("t.")+" FROM "+q.from+" JOIN "+t.shape.name.Sanitize()+" t ON "+q.on, q.args...)
	if err := w.send(ctx, pg); err != nil {
		return "", err
	}
	if !read {
		return fmt.Sprintf("the record of key %q was written, and can't be read back: %s changes its key, or a trigger drops it", row.Key, t.table()), nil
	}
	return "", nil
}

// keyListOf is the key's columns, each after the prefix.
func (t *Target) keyListOf(prefix string) string {
	names := make([]string, len(t.shape.key))
	for n, i := range t.shape.key {
		names[n] = prefix + quote(t.shape.columns[i].name)
	}
	return strings.Join(names, ", ")
}
