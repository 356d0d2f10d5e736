package redis

import (
	"context"
	_ "embed" // the scripts
	"fmt"
	"strconv"

	goredis "github.com/redis/go-redis/v9"

	"github.com/stranglerfig/migrator/record"
)

var _ record.Filler = (*Target)(nil)

// A server does nothing else while it runs one call of the script.
const (
	fillRows  = 50
	fillBytes = 64 << 10
)

//go:embed scripts/fill.lua
var fillSource string

//go:embed scripts/fillhash.lua
var fillHashSource string

//go:embed scripts/filljson.lua
var fillJSONSource string

var (
	fillHash = newScript(fillHashSource + fillSource)
	fillJSON = newScript(fillJSONSource + fillSource)
)

// CanFill implements record.Filler, of records that don't expire, on one server:
// in a cluster each key has its own.
func (t *Target) CanFill() bool { return t.CanMatch() }

// Fill implements record.Filler: one pipeline of scripts that write some records
// each, on a connection of its own.
func (t *Target) Fill(ctx context.Context, f record.Fill, written []bool) error {
	client, ok := t.client.(*goredis.Client)
	if !ok || !t.CanFill() {
		return fmt.Errorf("fill Redis: %w", errBulk)
	}
	m := filling{
		t: t, seen: make(map[string]struct{}, fillRows), written: written[:f.Block.Rows()], version: f.Version.AppendText32(nil),
		late: strconv.FormatInt(f.NotAfter.UnixMicro(), 10), rows: rowsOf(f.Block), filler: t.codec.filler(),
	}
	clear(m.written)
	conn, err := t.bulk.take(ctx, client.Options())
	if err != nil {
		return fmt.Errorf("fill Redis: %w", because(ctx, err))
	}
	if err := conn.during(ctx, func() error { return m.on(conn) }); err != nil {
		_ = conn.Close()
		return fmt.Errorf("fill Redis: %w", err)
	}
	t.bulk.give(conn)
	return nil
}

// filler is a format's part of a fill.
type filler interface {
	script() *script
	// head appends the arguments that all records share, and says how many.
	head(dst []byte) ([]byte, int)
	// record appends one record's arguments, and says how many; false: Apply says why not.
	record(dst, version []byte, r record.Record) ([]byte, int, bool)
}

// filling is one block's fill.
type filling struct {
	t       *Target
	written []bool
	version []byte
	late    string
	rows    blockRows
	filler  filler

	calls      [][]int32 // the rows of each call of the script
	keys, args []byte    // of the call that is being made
	count      int       // of args
	name       []byte
	seen       map[string]struct{} // sidecars of the call
}

func (m *filling) on(c *bulkConn) error {
	var rows []int32
	for i := range m.written {
		r := m.rows.at(i)
		name, ok := m.t.template.appendName(m.name[:0], m.t.schema, r)
		if m.name = name; !ok {
			continue
		}
		beside, _ := sidecar(string(name))
		if _, twice := m.seen[beside]; twice {
			continue
		}
		before := len(m.args)
		args, n, ok := m.filler.record(m.args, m.version, r)
		if !ok {
			m.args = m.args[:before]
			continue
		}
		m.args, m.count = args, m.count+n
		m.seen[beside] = struct{}{}
		m.keys = appendBulk(appendBulk(m.keys, name), beside)
		if rows = append(rows, int32(i)); len(rows) == fillRows || len(m.args) >= fillBytes {
			m.call(c, rows)
			rows = nil
		}
	}
	if len(rows) > 0 {
		m.call(c, rows)
	}
	if err := c.flush(); err != nil {
		return err
	}
	for _, rows := range m.calls {
		if err := m.answered(c, rows); err != nil {
			return err
		}
	}
	return nil
}

// call appends the script's call for the rows. The first one of a pipeline has the
// script's text: so the server knows it when the others come.
func (m *filling) call(c *bulkConn, rows []int32) {
	s := m.filler.script()
	head, shared := m.filler.head(nil)
	c.out = fmt.Appendf(c.out, "*%d\r\n", 5+2*len(rows)+shared+m.count)
	if len(m.calls) == 0 {
		c.out = appendBulk(appendBulk(c.out, "EVAL"), s.source)
	} else {
		c.out = appendBulk(appendBulk(c.out, "EVALSHA"), s.sha)
	}
	c.out = append(appendBulk(c.out, strconv.Itoa(2*len(rows))), m.keys...)
	c.out = append(append(appendBulk(appendBulk(c.out, m.late), m.version), head...), m.args...)
	m.calls = append(m.calls, rows)
	m.keys, m.args, m.count = m.keys[:0], m.args[:0], 0
	clear(m.seen)
}

// answered reads one call's reply. What the server refused is left to Apply, which
// says why.
func (m *filling) answered(c *bulkConn, rows []int32) error {
	kind, n, err := c.header()
	switch {
	case err != nil || kind == '-':
		return err
	case kind != '$' || n < 0:
		return errBulk
	}
	text, err := c.text(n)
	if err != nil || n == 0 {
		return err
	}
	if n != len(rows) {
		return errBulk
	}
	for at, row := range rows {
		m.written[row] = text[at] == '1'
	}
	return nil
}

// hashFiller sends the fields' names once for each call.
type hashFiller struct{ codec *hashCodec }

func (c *hashCodec) filler() filler { return hashFiller{c} }

func (h hashFiller) script() *script { return fillHash }

func (h hashFiller) head(dst []byte) ([]byte, int) {
	dst = appendBulk(appendBulk(dst, h.codec.reserved), strconv.Itoa(len(h.codec.names)))
	for _, name := range h.codec.names {
		dst = appendBulk(dst, name)
	}
	return dst, 2 + len(h.codec.names)
}

func (h hashFiller) record(dst, _ []byte, r record.Record) ([]byte, int, bool) {
	n := 1
	dst = append(strconv.AppendInt(append(dst, '$'), int64(len(r)), 10), "\r\n"...)
	for i := range r {
		if r[i].State == record.Present {
			dst = append(dst, '1')
		} else {
			dst = append(dst, '0')
		}
	}
	dst = append(dst, "\r\n"...)
	for i := range r {
		if r[i].State == record.Present {
			dst = appendBulk(dst, r[i].Text)
			n++
		}
	}
	return dst, n, true
}

type jsonFiller struct {
	codec    *jsonCodec
	document []byte
}

func (c *jsonCodec) filler() filler { return &jsonFiller{codec: c} }

func (j *jsonFiller) script() *script { return fillJSON }

func (j *jsonFiller) head(dst []byte) ([]byte, int) { return dst, 0 }

func (j *jsonFiller) record(dst, version []byte, r record.Record) ([]byte, int, bool) {
	document, err := j.codec.encode(j.document[:0], version, r)
	if err != nil {
		return dst, 0, false
	}
	j.document = document
	return appendBulk(dst, document), 1, true
}
