package redis

import (
	"bytes"
	"context"
	"fmt"

	goredis "github.com/redis/go-redis/v9"

	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

var _ store.BulkComparer = (*Target)(nil)

// CanBulkCompare implements store.BulkComparer.
func (t *Target) CanBulkCompare() bool { return true }

// BulkCompare implements store.BulkComparer. It uses its own connections, and compares
// replies in the read buffer. Requests for block N+1 are sent before the replies for
// block N are read, so that no server waits for the comparison.
func (t *Target) BulkCompare(ctx context.Context, fields []int, next func() (*record.Block, record.Version, error), done func(*record.Block, []bool) error) (err error) {
	a := &bulkComparison{t: t, reader: t.codec.comparer(fields), conns: map[*goredis.Client]*bulkConn{}}
	defer func() { a.end(err) }()
	var pending *blockComparison
	report := func() error {
		if pending == nil {
			return nil
		}
		if err := pending.read(ctx, a.reader); err != nil {
			return fmt.Errorf("compare in Redis: %w", err)
		}
		of := pending
		pending = nil
		return done(of.rows.block, of.same)
	}
	for {
		b, high, err := next()
		if err != nil {
			return err
		}
		if b == nil {
			return report()
		}
		if a.expired() {
			if err := report(); err != nil {
				return err
			}
			a.end(nil)
		}
		now, err := a.request(ctx, b, fields, high)
		if err != nil {
			return fmt.Errorf("compare in Redis: %w", err)
		}
		if err := report(); err != nil {
			return err
		}
		pending = now
	}
}

// bulkComparison is one call of BulkCompare.
type bulkComparison struct {
	t      *Target
	reader rowComparer
	conns  map[*goredis.Client]*bulkConn
	name   []byte
}

// blockComparison is the comparison of one block.
type blockComparison struct {
	t      *Target
	rows   blockRows
	fields []int
	known  record.VersionBound // of versions that legacy has issued by now
	same   []bool
	due    []replies
	want   []byte
}

// replies are the outstanding replies of one server, in the order of the rows.
type replies struct {
	conn *bulkConn
	rows []int32
}

// request sends the commands for a block.
func (a *bulkComparison) request(ctx context.Context, b *record.Block, fields []int, high record.Version) (*blockComparison, error) {
	m := &blockComparison{t: a.t, rows: rowsOf(b), fields: fields, known: record.NewVersionBound(high), same: make([]bool, b.Rows())}
	if a.t.expires >= 0 && a.t.noExpireTime.Load() {
		return m, nil // the server can't report an expiry to the millisecond
	}
	shares, err := a.t.shares(ctx, b)
	if err != nil {
		return nil, err
	}
	for client, rows := range shares {
		c := a.conns[client]
		if c == nil {
			if c, err = a.t.bulk.open(ctx, client); err != nil {
				return nil, err
			}
			a.conns[client] = c
		}
		m.due = append(m.due, replies{c, a.commands(c, m, rows)})
		if err := c.during(ctx, c.flush); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// commands appends the commands for rows, and returns the rows that have a command.
func (a *bulkComparison) commands(c *bulkConn, m *blockComparison, rows []int32) []int32 {
	asked := rows[:0]
	for _, i := range rows {
		name, ok := a.t.template.appendName(a.name[:0], a.t.schema, m.rows.only(int(i), a.t.schema.Key))
		if a.name = name; !ok {
			continue // Get reports why
		}
		c.out = a.reader.ask(c.out, name)
		if a.t.expires >= 0 {
			c.out = appendBulk(append(c.out, "*2\r\n$11\r\nPEXPIRETIME\r\n"...), name)
		}
		asked = append(asked, i)
	}
	return asked
}

// expired reports whether a connection must not be used for another block.
func (a *bulkComparison) expired() bool {
	for _, c := range a.conns {
		if c.expired() {
			return true
		}
	}
	return false
}

// end returns the connections to the pool, or closes them after an error: replies may
// still be outstanding then.
func (a *bulkComparison) end(err error) {
	for client, c := range a.conns {
		if err != nil {
			_ = c.Close()
		} else {
			a.t.bulk.give(client, c)
		}
	}
	clear(a.conns)
}

func (m *blockComparison) read(ctx context.Context, reader rowComparer) error {
	for _, d := range m.due {
		if err := d.conn.during(ctx, func() error { return m.replies(d, reader) }); err != nil {
			return err
		}
	}
	return nil
}

func (m *blockComparison) replies(d replies, reader rowComparer) error {
	for _, i := range d.rows {
		same, err := reader.answered(d.conn, m, int(i))
		if err != nil {
			return err
		}
		if m.t.expires >= 0 {
			expires, err := m.expires(d.conn, int(i))
			if err != nil {
				return err
			}
			same = same && expires
		}
		m.same[i] = same
	}
	return nil
}

// expires reads the record's expiry, and reports whether it is the row's.
func (m *blockComparison) expires(c *bulkConn, row int) (same bool, err error) {
	kind, at, err := c.header()
	if err != nil || kind == '-' {
		return false, err
	}
	if kind != ':' {
		return false, errUnexpectedReply
	}
	ms, ever, err := expiryOf(m.rows.only(row, []int{m.t.expires})[m.t.expires])
	if err != nil {
		return false, nil //nolint:nilerr // Get reports the error
	}
	if !ever {
		ms = -1
	}
	return int64(at) == ms, nil
}

// rowComparer requests records and compares them with rows.
type rowComparer interface {
	ask(dst, name []byte) []byte
	// answered consumes the whole reply for a row. Its error is one of the connection.
	answered(c *bulkConn, m *blockComparison, row int) (same bool, err error)
}

// hashComparer reads the version and the compared fields.
type hashComparer struct {
	head, tail []byte // of the command, around the name
	open       []byte // of the reply, before the version
	fields     []int
}

func (c *hashCodec) comparer(fields []int) rowComparer {
	m := &hashComparer{fields: fields}
	m.head = fmt.Appendf(nil, "*%d\r\n$5\r\nHMGET\r\n", 3+len(fields))
	m.tail = appendBulk(nil, c.reserved)
	for _, f := range fields {
		m.tail = appendBulk(m.tail, c.names[f])
	}
	m.open = fmt.Appendf(nil, "*%d\r\n$%d\r\n", 1+len(fields), record.VersionDigits)
	return m
}

func (h *hashComparer) ask(dst, name []byte) []byte {
	return append(appendBulk(append(dst, h.head...), name), h.tail...)
}

// answered compares the reply with the bytes that an equal record would have, except
// for its version. If they are equal nothing has to be parsed.
func (h *hashComparer) answered(c *bulkConn, m *blockComparison, row int) (bool, error) {
	m.want = append(m.want[:0], "\r\n"...)
	for _, f := range h.fields {
		if text, present := m.rows.block.Cell(row, f); present {
			m.want = appendBulk(m.want, text)
		} else {
			m.want = append(m.want, "$-1\r\n"...)
		}
	}
	end := len(h.open) + record.VersionDigits
	reply := c.arrived(end + len(m.want))
	if reply == nil || !bytes.Equal(reply[:len(h.open)], h.open) || !bytes.Equal(reply[end:], m.want) {
		return h.parsed(c, m, row)
	}
	same := m.known.Includes(reply[len(h.open):end])
	_, err := c.in.Discard(len(reply))
	return same, err
}

// parsed is answered for replies that differ, or have not arrived completely.
func (h *hashComparer) parsed(c *bulkConn, m *blockComparison, row int) (bool, error) {
	kind, n, err := c.header()
	if err != nil || kind == '-' {
		return false, err
	}
	if kind != '*' || n != 1+len(h.fields) {
		return false, errUnexpectedReply
	}
	same := true
	for i := range n {
		kind, size, err := c.header()
		if err != nil {
			return false, err
		}
		if kind != '$' {
			return false, errUnexpectedReply
		}
		var text []byte
		if size >= 0 {
			if text, err = c.text(size); err != nil {
				return false, err
			}
		}
		switch {
		case !same:
		case i == 0:
			same = m.known.Includes(text)
		default:
			want, present := m.rows.block.Cell(row, h.fields[i-1])
			same = (size >= 0) == present && bytes.Equal(text, want)
		}
	}
	return same, nil
}

// jsonComparer compares the document with the one that migrator would write. A record
// whose document differs in form is left to Get.
type jsonComparer struct {
	codec *jsonCodec
	all   bool
}

func (c *jsonCodec) comparer(fields []int) rowComparer {
	return &jsonComparer{codec: c, all: len(fields) == len(c.schema.Fields)}
}

func (j *jsonComparer) ask(dst, name []byte) []byte {
	return appendBulk(append(dst, "*2\r\n$3\r\nGET\r\n"...), name)
}

func (j *jsonComparer) answered(c *bulkConn, m *blockComparison, row int) (bool, error) {
	kind, n, err := c.header()
	if err != nil || kind == '-' {
		return false, err
	}
	if kind != '$' {
		return false, errUnexpectedReply
	}
	if n < 0 {
		return false, nil
	}
	text, err := c.text(n)
	head := len(j.codec.head)
	if err != nil || !j.all || n < head+record.VersionDigits || string(text[:head]) != j.codec.head {
		return false, err
	}
	version := text[head : head+record.VersionDigits]
	if !m.known.Includes(version) {
		return false, nil
	}
	if m.want, err = j.codec.encode(m.want[:0], version, m.rows.at(row)); err != nil {
		return false, nil //nolint:nilerr // Get reports the error
	}
	return bytes.Equal(m.want, text), nil
}
