package capture

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store/postgres"
)

// ErrColumns is the cause of an error about a table whose columns are not those that were applied: what is
// moved can't be read from the log.
var ErrColumns = fmt.Errorf("the columns of legacy's table are not those that were applied")

// relation is how the log describes the table, or a partition of it.
type relation struct {
	id     uint32
	root   bool
	place  []int  // of each field: its column in a message; -1: the log does not have it (a generated column)
	key    []bool // of each column in a message: it belongs to the replica identity
	fields int
}

// attribute is a column of the table in the catalog.
type attribute struct {
	name      string
	generated bool
}

// attributes reads the columns of the table, by their numbers. order has the numbers of those that the log has, in
// its order; nil if a column was ever dropped: then a message may have it too.
func attributes(ctx context.Context, legacy *postgres.Legacy) (all map[int16]attribute, order []int16, err error) {
	_, oid := legacy.CaptureTable()
	rows, err := legacy.Pool().Query(ctx, `SELECT attnum, attname::text, attgenerated <> '', attisdropped FROM pg_attribute
		WHERE attrelid = $1 AND attnum > 0 ORDER BY attnum`, oid)
	if err != nil {
		return nil, nil, err
	}
	all = map[int16]attribute{}
	var number int16
	var a attribute
	var dropped, gone bool
	_, err = pgx.ForEachRow(rows, []any{&number, &a.name, &a.generated, &dropped}, func() error {
		gone = gone || dropped
		if dropped {
			return nil
		}
		all[number] = a
		if !a.generated {
			order = append(order, number)
		}
		return nil
	})
	if gone {
		order = nil
	}
	return all, order, err
}

// relationOf finds the fields' columns in the log's description of the table, or of a partition of it.
//
// The log has names as they were then, and no numbers. It has the columns in the order of their numbers, so where
// none was ever dropped, a place is a number. Else a column is found by the name that its number has now, since a
// renamed one is the same column; else by the name that was applied, where the renaming is still to come in the log.
func relationOf(m *pglogrepl.RelationMessage, legacy *postgres.Legacy, now map[int16]attribute, order []int16) (*relation, error) {
	_, oid := legacy.CaptureTable()
	schema := legacy.Schema()
	r := &relation{id: m.RelationID, root: m.RelationID == oid, fields: len(m.Columns)}
	for _, c := range m.Columns {
		r.key = append(r.key, c.Flags&1 != 0)
	}
	numbered := schema.Table == int64(oid)
	for i, f := range schema.Fields {
		name, generated := f.Name, false
		if numbered && f.Number != 0 {
			a, there := now[f.Number]
			if !there {
				return nil, changed("column %q was dropped", f.Name)
			}
			name, generated = a.name, a.generated
		}
		at := find(m, name)
		if place := slices.Index(order, f.Number); numbered && r.root && place >= 0 {
			if at = place; at >= len(m.Columns) {
				at = -1 // it was added later
			}
		} else if then := find(m, f.Name); name != f.Name && then >= 0 && at < 0 {
			at = then
		} else if name != f.Name && then >= 0 && numberOf(now, f.Name) == 0 {
			return nil, changed("column %q was renamed to %q, and another one had that name", f.Name, name)
		}
		switch {
		case at < 0 && generated:
			r.place = append(r.place, -1)
			continue
		case at < 0:
			return nil, changed("the log has no column %q", name)
		case legacy.CapturedType(i) != m.Columns[at].DataType:
			return nil, changed("column %q has another type in the log", name)
		}
		r.place = append(r.place, at)
	}
	return r, r.checkIdentity(m, schema)
}

func changed(format string, args ...any) error {
	return hint.Errorf(hint.Hint{Do: hint.Status, Text: "which names what has changed"}, "%w: "+format, append([]any{ErrColumns}, args...)...)
}

func find(m *pglogrepl.RelationMessage, name string) int {
	for i, c := range m.Columns {
		if c.Name == name {
			return i
		}
	}
	return -1
}

func numberOf(now map[int16]attribute, name string) int16 {
	for number, a := range now {
		if a.name == name {
			return number
		}
	}
	return 0
}

// checkIdentity refuses a replica identity that does not give the key.
//
// [capture-identity]: with an index that lacks a column of the key, an update that changes the key says nothing
// of the old one.
func (r *relation) checkIdentity(m *pglogrepl.RelationMessage, schema *record.Schema) error {
	for _, i := range schema.Key {
		if at := r.place[i]; at < 0 || !r.key[at] {
			return lacksKey(m.Namespace+"."+m.RelationName, schema.Fields[i].Name)
		}
	}
	return nil
}

// decoder makes records of messages.
type decoder struct {
	legacy *postgres.Legacy
	buffer []byte
	ends   []int
}

// record decodes a row. A field is Missing where the log has left it out because it did not change; old, if not
// nil, is the row before, of which kind says which columns it has: unchanged fields are taken from it. unread is
// true if the log does not have a field, or prints its type in another way than a query.
func (d *decoder) record(r *relation, row, old []cell, kind byte) (made record.Record, unread bool, err error) {
	if len(row) != r.fields || old != nil && len(old) != r.fields {
		return nil, false, errWire
	}
	d.buffer, d.ends = d.buffer[:0], d.ends[:0]
	made = make(record.Record, len(r.place))
	for i, at := range r.place {
		var c cell
		if at >= 0 {
			c = row[at]
			if c.kind == columnUnchanged && old != nil && (kind == oldWhole || r.key[at]) {
				c = old[at]
			}
		}
		switch c.kind {
		case 0:
			unread = true
		case columnNull:
			made[i].State = record.Null
		case columnText:
			var plain bool
			if d.buffer, plain, err = d.legacy.AppendCaptured(d.buffer, i, c.text); err != nil {
				return nil, false, err
			}
			if plain {
				made[i].State = record.Present
			} else {
				unread = true
			}
		}
		d.ends = append(d.ends, len(d.buffer))
	}
	all, from := string(d.buffer), 0
	for i, end := range d.ends {
		if made[i].State == record.Present {
			made[i].Text = all[from:end]
		}
		from = end
	}
	return made, unread, nil
}
