package postgres

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// writeDecided writes the applied writes and commits, unless a not-after has passed. Deletes come last, or first.
func (t *Target) writeDecided(writes []store.Write, states []keyState, removeFirst bool) (*pipeline, error) {
	p := &pipeline{}
	var put, remove []int // positions in writes
	var names, versions, deleted, keep, undo []string
	var notAfter time.Time
	for i := range states {
		s := &states[i]
		w := &writes[s.write]
		switch beside := s.decided.Outcome == store.Foreign && w.Overwrite; {
		case s.decided.Outcome != store.Applied && !beside:
			if s.created {
				undo = append(undo, s.key)
			}
			continue
		case !w.Deleted:
			put = append(put, s.write)
		// [owned-only]: only what was there when the version was locked. Another program, which locks no
		// version, may insert a record of the key meanwhile.
		case !beside && s.present:
			remove = append(remove, s.write)
		}
		if !w.NotAfter.IsZero() && (notAfter.IsZero() || w.NotAfter.Before(notAfter)) {
			notAfter = w.NotAfter
		}
		if !s.created {
			names, versions = append(names, s.key), append(versions, string(w.Version.AppendText32(nil)))
			deleted, keep = append(deleted, strconv.FormatBool(w.Deleted)), append(keep, strconv.FormatBool(w.Keep))
		}
	}
	removes := func() {
		if len(remove) == 0 {
			return
		}
		keys := make([]record.Key, len(writes))
		for _, i := range remove {
			keys[i] = writes[i].Key
		}
		q := t.shape.keyQuery(keys, remove, nil)
		p.add(nil, "DELETE FROM "+t.shape.name.Sanitize()+" t USING "+q.from+" WHERE "+q.on, q.args...)
	}
	if removeFirst {
		removes()
	}
	if len(put) > 0 {
		if err := t.addPut(p, writes, put); err != nil {
			return nil, err
		}
	}
	if !removeFirst {
		removes()
	}
	if len(names) > 0 {
		// [tombstone]: the version of a deleted record stays.
		p.add(nil, `UPDATE `+t.side+` s SET version = u.version, deleted = u.deleted::bool, expires = `+t.expires()+`
			FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS u(key, version, deleted, keep) WHERE s.key = u.key`,
			names, versions, deleted, keep, time.Duration(t.horizon.Load()).Microseconds())
	}
	if len(undo) > 0 {
		p.add(nil, "DELETE FROM "+t.side+" WHERE key = ANY ($1::text[])", undo)
	}
	if !notAfter.IsZero() {
		// [not-after]: once more just before the commit, since the writes may have waited.
		p.addNotAfter(notAfter)
	}
	p.add(nil, "COMMIT")
	return p, nil
}

// addNotAfter makes the transaction fail if the server's clock is past at.
func (p *pipeline) addNotAfter(at time.Time) {
	p.add(nil, "SELECT (CASE WHEN clock_timestamp() > $1::text::timestamptz THEN $2::text ELSE 'true' END)::bool",
		at.UTC().Format("2006-01-02T15:04:05.999999Z"), lateMark)
}

// addPut writes whole records. Texts are cast to each column's type without its
// length, and assigned: a text that is too long is then an error, and not truncated.
func (t *Target) addPut(p *pipeline, writes []store.Write, put []int) error {
	s := t.shape
	var columns, arrays, names, casts, set []string
	var args []any
	for f, c := range s.columns {
		if c.generated {
			continue
		}
		array, err := columnArray(c, writes, put, f)
		if err != nil {
			return fmt.Errorf("field %q: %w", s.schema.Fields[f].Name, err)
		}
		n := strconv.Itoa(len(args) + 1)
		args = append(args, array)
		columns = append(columns, quote(c.name))
		arrays = append(arrays, "$"+n+"::text[]")
		names = append(names, "c"+n)
		casts = append(casts, c.input("u.c"+n))
		if (s.looseKey || !slices.Contains(s.key, f)) && c.identity != "a" {
			set = append(set, quote(c.name)+" = EXCLUDED."+quote(c.name))
		}
	}
	conflict := "DO NOTHING"
	if len(set) > 0 {
		conflict = "DO UPDATE SET " + strings.Join(set, ", ")
	}
	p.add(nil, "INSERT INTO "+s.name.Sanitize()+" ("+strings.Join(columns, ", ")+") OVERRIDING SYSTEM VALUE SELECT "+strings.Join(casts, ", ")+
		" FROM unnest("+strings.Join(arrays, ", ")+") AS u("+strings.Join(names, ", ")+") ON CONFLICT ("+s.keyList()+") "+conflict, args...)
	return nil
}

// columnArray returns the literal of a text[] with the values of one field.
func columnArray(c *column, writes []store.Write, put []int, field int) ([]byte, error) {
	var b strings.Builder
	b.WriteByte('{')
	for n, i := range put {
		if n > 0 {
			b.WriteByte(',')
		}
		r := writes[i].Record
		if field >= len(r) || r[field].State != record.Present {
			b.WriteString("NULL")
			continue
		}
		text := r[field].Text
		if c.changesThere() {
			changed, err := c.conversion.toTarget(nil, []byte(text))
			if err != nil {
				return nil, c.unfitIn(err)
			}
			text = string(changed)
		}
		text, err := fromCanonical(c.format, text)
		if err != nil {
			return nil, &pgconn.PgError{Code: "22P02", Message: err.Error()}
		}
		writeQuoted(&b, text)
	}
	b.WriteByte('}')
	return []byte(b.String()), nil
}
