package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/internal/oneline"
	"github.com/stranglerfig/migrator/store"
)

var _ store.PartWatcher = (*Legacy)(nil)

// Parts implements store.PartWatcher: the table, its partitions, and tables that inherit from it. If another table has
// its name now, as after an exchange of the two, that one's: statements name it.
func (l *Legacy) Parts(ctx context.Context) ([]store.Part, error) {
	oid, err := l.named(ctx)
	if err != nil {
		return nil, err
	}
	return l.partsOf(ctx, oid)
}

// CapturedParts are those of the table that was published.
func (l *Legacy) CapturedParts(ctx context.Context) ([]store.Part, error) {
	return l.partsOf(ctx, l.shape.oid)
}

// Replaced reports whether another table has the name of the one that the store was opened with.
func (l *Legacy) Replaced(ctx context.Context) (bool, error) {
	oid, err := l.named(ctx)
	return oid != l.shape.oid, err
}

// named is the table that has the name; the one that the store was opened with, if none has.
func (l *Legacy) named(ctx context.Context) (oid uint32, err error) {
	err = l.pool.QueryRow(ctx, `SELECT coalesce((SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE n.nspname = $1 AND c.relname = $2), $3::oid)`, l.shape.name[0], l.shape.name[1], l.shape.oid).Scan(&oid)
	if err != nil {
		err = fmt.Errorf("look for legacy table %s: %w", l.table(), err)
	}
	return oid, err
}

func (l *Legacy) partsOf(ctx context.Context, oid uint32) ([]store.Part, error) {
	rows, err := l.pool.Query(ctx, `
		WITH RECURSIVE tree AS (
			SELECT $1::oid AS oid, 0::oid AS parent, 0 AS depth
			UNION ALL
			SELECT i.inhrelid, i.inhparent, tree.depth + 1 FROM pg_inherits i JOIN tree ON tree.oid = i.inhparent
		)
		SELECT c.oid::int8, format('%I.%I', n.nspname, c.relname), min(tree.parent::int8), c.relfilenode::text, coalesce((
			SELECT json_object_agg(a.attname, concat_ws(' ', a.xmin, d.oid, a.attgenerated) ORDER BY a.attnum)::text
			FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum AND a.attgenerated <> ''
			WHERE a.attrelid = c.oid AND NOT a.attisdropped AND a.attname = ANY ($2::text[])), '')
		FROM tree JOIN pg_class c ON c.oid = tree.oid JOIN pg_namespace n ON n.oid = c.relnamespace
		GROUP BY c.oid, n.nspname, c.relname, c.relfilenode ORDER BY min(tree.depth), c.oid`, oid, l.shape.names())
	if err != nil {
		return nil, fmt.Errorf("read the partitions of legacy table %s: %w", l.table(), err)
	}
	parts, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (p store.Part, err error) {
		err = row.Scan(&p.ID, &p.Name, &p.Parent, &p.Storage, &p.Columns)
		return p, err
	})
	if err != nil {
		return nil, fmt.Errorf("read the partitions of legacy table %s: %w", l.table(), err)
	}
	return parts, nil
}

// maxPartChanges is how many changes are named; the others are counted.
const maxPartChanges = 5

// PartChanges implements store.PartWatcher.
func (l *Legacy) PartChanges(ctx context.Context, before, now []store.Part) (changes string, gone, come bool, err error) {
	var all []string
	was, is := byID(before), byID(now)
	for _, p := range before {
		if _, still := is[p.ID]; still {
			continue
		}
		gone = true
		var there bool
		if err := l.pool.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_class WHERE oid = $1::int8::oid)", p.ID).Scan(&there); err != nil {
			return "", false, false, fmt.Errorf("look for partition %s of legacy table %s: %w", p.Name, l.table(), err)
		}
		switch {
		case p.Parent == 0:
			all = append(all, "table "+oneline.Escape(p.Name)+" was dropped, or is another one")
		case there:
			all = append(all, "partition "+oneline.Escape(p.Name)+" was detached")
		default:
			all = append(all, "partition "+oneline.Escape(p.Name)+" was dropped")
		}
	}
	for _, p := range now {
		old, known := was[p.ID]
		switch {
		case !known && p.Parent == 0: // the table: what it was instead is gone
		case !known:
			filled, err := l.partFilled(ctx, p)
			if err != nil {
				return "", false, false, err
			}
			come = come || filled
			all = append(all, "partition "+oneline.Escape(p.Name)+" was added, "+map[bool]string{true: "with records", false: "empty"}[filled])
		case old.Name != p.Name:
			all = append(all, oneline.Escape(old.Name)+" was renamed to "+oneline.Escape(p.Name))
		case old.Parent != p.Parent:
			all = append(all, "partition "+oneline.Escape(p.Name)+" was moved within the table")
		}
		if columns := rewritten(old, p); known && len(columns) > 0 {
			gone = true
			all = append(all, oneline.Escape(p.Name)+" was rewritten by ALTER TABLE, and may have other values ("+oneline.Escape(strings.Join(columns, ", "))+")")
		}
	}
	if len(all) > maxPartChanges {
		all = append(all[:maxPartChanges:maxPartChanges], fmt.Sprintf("and %d more changes", len(all)-maxPartChanges))
	}
	return strings.Join(all, ", "), gone, come, nil
}

// rewritten returns the columns whose values ALTER TABLE may have replaced: no trigger sees that, and no log has it.
// It redefines the column and rewrites all rows (TYPE ... USING, SET EXPRESSION). VACUUM FULL, CLUSTER and TRUNCATE do
// one of the two, as SET STATISTICS does the other. A virtual column has no rows to be written.
func rewritten(was, is store.Part) (columns []string) {
	if was.Columns == "" || is.Columns == "" || was.Columns == is.Columns {
		return nil
	}
	var before, now map[string]string
	if json.Unmarshal([]byte(was.Columns), &before) != nil || json.Unmarshal([]byte(is.Columns), &now) != nil {
		return nil
	}
	for name, defined := range now {
		old, there := before[name]
		virtual := strings.HasSuffix(defined, " v")
		if virtual {
			_, old, _ = strings.Cut(old, " ")
			_, defined, _ = strings.Cut(defined, " ")
		}
		if there && old != defined && (virtual || was.Storage != is.Storage) {
			columns = append(columns, quote(name))
		}
	}
	slices.Sort(columns)
	return columns
}

// partFilled reports whether a new part has a row; true where this role can't know.
func (l *Legacy) partFilled(ctx context.Context, p store.Part) (filled bool, err error) {
	err = inTx(ctx, l.pool, pgx.ReadOnly, func(tx pgx.Tx) error {
		if err := setLockTimeout(ctx, tx, time.Second); err != nil {
			return err
		}
		return tx.QueryRow(ctx, "SELECT EXISTS (SELECT FROM "+p.Name+")").Scan(&filled)
	})
	switch {
	case hasState(err, statePrivilege):
		return true, nil
	case hasState(err, stateUndefinedTable, stateNoSchema): // it is gone already: the next look tells
		return false, nil
	case err != nil:
		return false, fmt.Errorf("look into partition %s of legacy table %s: %w", p.Name, l.table(), err)
	}
	return filled, nil
}

func byID(parts []store.Part) map[int64]store.Part {
	m := map[int64]store.Part{}
	for _, p := range parts {
		m[p.ID] = p
	}
	return m
}
