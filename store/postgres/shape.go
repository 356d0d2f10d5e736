package postgres

import (
	"fmt"
	"slices"
	"strings"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/record"
)

// shape is the part of a table that is moved: the columns behind the fields of a
// schema, in their order.
type shape struct {
	*table
	schema  *record.Schema
	columns []*column // of each field
	key     []int     // indexes into columns

	// looseKey: the server takes keys of different texts as equal. plan refuses such a key; a
	// migration that an earlier version began may have one.
	looseKey bool
	// ownText: a row under an equal key of another text is another record's (the target), and not
	// found. In legacy it is found: see store.Row's Equal.
	ownText  bool
	verdicts []verdict // of the target's columns
}

func (s *shape) setLooseKey() {
	s.looseKey = slices.ContainsFunc(s.key, func(i int) bool { return s.manyTexts(s.columns[i], s.keyNames()) != "" })
}

// sameText is the SQL of whether the key of the row t has the texts of the given values, and is not
// only equal to them; "" where equal means that.
func (s *shape) sameText(values []string) string {
	if !s.looseKey {
		return ""
	}
	sql := ""
	for n, i := range s.key {
		sql += " AND pg_catalog.format('%s', t." + quote(s.columns[i].name) + `) COLLATE "C" = pg_catalog.format('%s', ` + values[n] + ")"
	}
	return sql
}

// legacyShape finds the records' fields and key in the legacy table.
func legacyShape(m *migration.Config, t *table) (*shape, error) {
	key, err := legacyKey(m, t)
	if err != nil {
		return nil, err
	}
	s := &shape{table: t, schema: &record.Schema{}}
	add := func(c *column, target string) error {
		if target == "" {
			target = c.name
		}
		for _, f := range s.schema.Fields {
			if f.Name == c.name {
				return fmt.Errorf("fields: column %q is named twice", c.name)
			}
			if f.Target == target {
				return fmt.Errorf("fields: columns %q and %q have the same target %q", f.Name, c.name, target)
			}
		}
		s.columns = append(s.columns, c)
		s.schema.Fields = append(s.schema.Fields, record.Field{
			Name: c.name, Target: target, Kind: c.format.kind, Element: c.format.element, Type: c.declared, Base: c.baseType(), NotNull: c.notNull, Collation: c.collation, Inside: c.inside, Number: c.number,
		})
		return nil
	}
	for _, f := range m.Fields {
		c := t.column(f.Name)
		if c == nil {
			return nil, t.unknown("fields", f.Name)
		}
		if err := add(c, f.Target); err != nil {
			return nil, err
		}
	}
	for _, name := range m.Exclude {
		switch {
		case t.column(name) == nil:
			return nil, t.unknown("exclude", name)
		case len(m.Fields) > 0:
			return nil, hint.Errorf(hint.Hint{Text: "leave one of the two out"}, "exclude and fields are both set: fields already names what is moved")
		}
	}
	if len(m.Fields) == 0 {
		for i := range t.columns {
			if slices.Contains(m.Exclude, t.columns[i].name) {
				continue
			}
			if err := add(&t.columns[i], ""); err != nil {
				return nil, err
			}
		}
	}
	if err := s.placeKey(key); err != nil {
		return nil, err
	}
	s.schema.Left, s.schema.Table = []string{}, int64(t.oid)
	for i := range t.columns {
		if name := t.columns[i].name; s.schema.Index(name) < 0 {
			s.schema.Left = append(s.schema.Left, name)
		}
	}
	return s, t.checkVersionColumn(legacyConfig(m).VersionColumn)
}

func (t *table) checkVersionColumn(v string) error {
	if v == "" {
		return nil
	}
	switch c := t.column(v); {
	case c == nil:
		return t.unknown("legacy.version_column", v)
	case c.format.kind != record.Int:
		return fmt.Errorf("legacy.version_column: column %q is of type %s: want an integer", v, c.declared)
	case !c.notNull:
		return hint.Errorf(setNotNull(t, v), "legacy.version_column: column %q may be null: every row needs a version", v)
	}
	return nil
}

// appliedShape is the shape of the columns that apply has resolved, and of no other. A column that the
// table no longer has, or has with another type, does not fail here: ColumnChanges names it, and
// statements that need it fail by themselves.
func appliedShape(t *table, schema *record.Schema, name func(record.Field) string) *shape {
	s := &shape{table: t, schema: schema, key: schema.Key}
	for _, f := range schema.Fields {
		c := t.column(name(f))
		if c == nil {
			c = &column{
				name: name(f), declared: f.Type, notNull: f.NotNull, typmod: -1,
				typ:  &sqlType{schema: "pg_catalog", form: formBase, cast: f.Type, equal: equalBytes},
				base: baseType{cast: f.Type}, format: format{kind: f.Kind, element: f.Element, delimiter: ','},
			}
		}
		s.columns = append(s.columns, c)
	}
	s.setLooseKey()
	return s
}

func legacyName(f record.Field) string { return f.Name }
func targetName(f record.Field) string { return f.Target }

func (s *shape) placeKey(key []string) error {
	for _, name := range key {
		at := s.schema.Index(name)
		if at < 0 {
			return hint.Errorf(hint.Hint{Text: "add it to fields, or take it out of exclude"}, "column %q is part of the key: it must be moved too", name)
		}
		s.schema.Key = append(s.schema.Key, at)
	}
	s.key = s.schema.Key
	s.setLooseKey()
	return nil
}

func legacyKey(m *migration.Config, t *table) ([]string, error) {
	key := legacyConfig(m).Key
	if len(key) == 0 {
		if len(t.primary) == 0 {
			return nil, hint.Errorf(hint.Hint{Text: "name the columns of a unique key under legacy.key"}, "legacy table %s has no primary key", showTable(t.name))
		}
		key = t.primary
	}
	return key, t.fitsAsKey("legacy", key)
}

func setNotNull(t *table, column string) hint.Hint {
	return hint.Hint{Text: fmt.Sprintf("ALTER TABLE %s ALTER COLUMN %s SET NOT NULL", showTable(t.name), quote(column))}
}

// fitsAsKey returns an error if the columns can't be the key.
func (t *table) fitsAsKey(side string, key []string) error {
	for i, name := range key {
		c := t.column(name)
		switch {
		case c == nil:
			return t.unknown(side+".key", name)
		case slices.Contains(key[:i], name):
			return fmt.Errorf("%s.key: column %q is named twice", side, name)
		case !c.notNull:
			return hint.Errorf(setNotNull(t, name), "%s.key: column %q of %s may be null: every row needs a key", side, name, showTable(t.name))
		}
	}
	if t.temporal && slices.Equal(slices.Sorted(slices.Values(key)), slices.Sorted(slices.Values(t.primary))) && !t.unique(key) {
		return hint.Errorf(hint.Hint{Text: fmt.Sprintf("CREATE UNIQUE INDEX CONCURRENTLY ON %s (%s)", showTable(t.name), quoteList(key))},
			"the primary key of %s table %s is WITHOUT OVERLAPS: it is an exclusion constraint, by which ON CONFLICT can't find a row", side, showTable(t.name))
	}
	if !t.unique(key) {
		return hint.Errorf(hint.Hint{Text: fmt.Sprintf("CREATE UNIQUE INDEX CONCURRENTLY ON %s (%s)", showTable(t.name), quoteList(key))},
			"%s table %s has no unique index over exactly the key's columns (%s) that is not partial and not deferrable: two rows could be one record",
			side, showTable(t.name), strings.Join(key, ", "))
	}
	return nil
}

func (t *table) unknown(setting, name string) error {
	return fmt.Errorf("%s: table %s has no column %q; its columns are %s", setting, showTable(t.name), name, t.columnNames())
}

func quoteList(names []string) string {
	quoted := make([]string, len(names))
	for i, name := range names {
		quoted[i] = quote(name)
	}
	return strings.Join(quoted, ", ")
}

// names are those of the columns behind the fields.
func (s *shape) names() []string {
	names := make([]string, len(s.columns))
	for i, c := range s.columns {
		names[i] = c.name
	}
	return names
}

// list returns the SQL of what the server sends of all fields, each column after the prefix ("t.").
func (s *shape) list(prefix string) string {
	names := make([]string, len(s.columns))
	for i, c := range s.columns {
		names[i] = c.output(prefix)
	}
	return strings.Join(names, ", ")
}
