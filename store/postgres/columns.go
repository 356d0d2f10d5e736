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

var (
	_ store.ColumnWatcher = (*Legacy)(nil)
	_ store.ColumnWatcher = (*Target)(nil)
	_ store.ColumnTyper   = (*Target)(nil)
)

// ColumnChanges implements store.ColumnWatcher.
func (l *Legacy) ColumnChanges(ctx context.Context, schema *record.Schema) ([]store.ColumnChange, error) {
	t, err := describe(ctx, l.pool, "legacy", legacyConfig(l.config).Table)
	if err != nil {
		return nil, err
	}
	c := changes{side: "legacy", table: t}
	for i, f := range schema.Fields {
		f.NotNull = f.NotNull && !slices.Contains(schema.Key, i) // what is the key's is said of the key
		c.compare(f, f.Name, sqlColumn{f.Type, f.Collation, f.Inside}, f.Number, t.oid == uint32(schema.Table))
	}
	c.key(schema, legacyName)
	if v := legacyConfig(l.config).VersionColumn; schema.Index(v) < 0 {
		if err := t.checkVersionColumn(v); err != nil {
			c.add(v, "version", true, "%v", err)
		}
	}
	listed := len(l.config.Fields) > 0 && schema.Left == nil // applied by a release that noted none
	for i := range t.columns {
		name := t.columns[i].name
		if listed || c.known[name] || slices.Contains(schema.Left, name) || slices.Contains(l.config.Exclude, name) {
			continue
		}
		c.add(name, "added", false, "column %q was added, and is not moved", oneline.Escape(name))
	}
	return c.found, nil
}

// ColumnChanges implements store.ColumnWatcher. Columns that no field goes into are the target's own.
func (t *Target) ColumnChanges(ctx context.Context, schema *record.Schema) ([]store.ColumnChange, error) {
	now, err := describe(ctx, t.pool, "target", targetConfig(t.config).Table)
	if err != nil {
		return nil, err
	}
	c := changes{side: "target", table: now}
	for _, f := range schema.Fields {
		c.compare(f, f.Target, sqlColumn{f.TargetType, f.TargetCollation, f.TargetInside}, 0, false)
	}
	c.key(schema, targetName)
	return c.found, nil
}

// TypedSchema implements store.ColumnTyper.
func (t *Target) TypedSchema() *record.Schema {
	s := *t.shape.schema
	s.Fields = slices.Clone(s.Fields)
	for i, c := range t.shape.columns {
		s.Fields[i].TargetType, s.Fields[i].TargetCollation, s.Fields[i].TargetInside = c.declared, c.collation, c.inside
	}
	return &s
}

// changes are how a table differs from a schema.
type changes struct {
	side  string
	table *table
	known map[string]bool // columns of the table that are the schema's, by their names now
	found []store.ColumnChange
}

// sqlColumn is a column as it was applied.
type sqlColumn struct{ declared, collation, inside string }

func (c *changes) add(column, change string, broken bool, format string, args ...any) {
	c.found = append(c.found, store.ColumnChange{
		Side: c.side, Column: oneline.Escape(column), Change: change, Detail: fmt.Sprintf(format, args...), Broken: broken,
	})
}

// compare compares one field's column. Numbers are compared only if they are of this table.
func (c *changes) compare(f record.Field, name string, was sqlColumn, number int16, numbered bool) {
	if c.known == nil {
		c.known = map[string]bool{}
	}
	is := c.table.column(name)
	if is == nil {
		if renamed := c.table.numbered(number); numbered && renamed != nil {
			c.known[renamed.name] = true
			c.add(name, "renamed", true, "column %q was renamed to %q", oneline.Escape(name), oneline.Escape(renamed.name))
			return
		}
		c.add(name, "dropped", true, "column %q was dropped, or renamed", oneline.Escape(name))
		return
	}
	c.known[name] = true
	inside := record.ChangedInside(was.inside, is.inside)
	switch {
	case numbered && number != 0 && is.number != number:
		c.add(name, "replaced", true, "column %q was dropped, and added again", oneline.Escape(name))
	case was.declared != "" && is.declared != was.declared:
		c.add(name, "retyped", true, "column %q is now of type %s, and was %s", oneline.Escape(name), is.declared, was.declared)
	case was.collation != "" && is.collation != was.collation:
		c.add(name, "collation", true, "column %q now has the collation %q, and had %q", oneline.Escape(name), is.collation, was.collation)
	case len(inside) > 0 && inside[0].Enum:
		c.add(name, "retyped", true, "a label of the enum %s of column %q was renamed: its records have another text in the store", oneline.Escape(inside[0].Type), oneline.Escape(name))
	case len(inside) > 0:
		c.add(name, "retyped", true, "the type %s of column %q has other attributes: its records have another text in the store", oneline.Escape(inside[0].Type), oneline.Escape(name))
	case c.side == "legacy" && f.NotNull && !is.notNull:
		c.add(name, "null", false, "column %q may be null now", oneline.Escape(name))
	}
}

// key looks whether the key's columns still are one.
func (c *changes) key(schema *record.Schema, name func(record.Field) string) {
	var names []string
	for _, i := range schema.Key {
		is := c.table.column(name(schema.Fields[i]))
		if is == nil {
			return // a change of its own
		}
		names = append(names, is.name)
	}
	if len(names) == 0 {
		return
	}
	if err := c.table.fitsAsKey(c.side, names); err != nil {
		c.add(strings.Join(names, ", "), "key", true, "%v", err)
	}
}

func (t *table) numbered(number int16) *column {
	for i := range t.columns {
		if number != 0 && t.columns[i].number == number {
			return &t.columns[i]
		}
	}
	return nil
}
