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

// BulkCompare implements store.BulkComparer: on connections of its own, replies compared where
// they lie. A block is asked for before the replies of the one before are read, so
// that no server waits for the comparing.
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

// asking is one BulkCompare.
type bulkComparison struct {
	t      *Target
	reader rowComparer
	conns  map[*goredis.Client]*bulkConn
	name   []byte
}

// matching is the comparison of one block.
type blockComparison struct {
	t      *Target
	rows   blockRows
	fields []int
	known  record.VersionBound // of versions that legacy has given by now
	same   []bool
	due    []replies
	want   []byte
}

// replies are those that one server owes, in the order of the rows.
type replies struct {
	conn *bulkConn
	rows []int32
}

// ask sends the commands for a block.
func (a *bulkComparison) request(ctx context.Context, b *record.Block, fields []int, high record.Version) (*blockComparison, error) {
	m := &blockComparison{t: a.t, rows: rowsOf(b), fields: fields, known: record.NewVersionBound(high), same: make([]bool, b.Rows())}
	if a.t.expires >= 0 && a.t.noExpireTime.Load() {
		return m, nil // an expiry can't be told to the millisecond
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

// commands appends those of rows, and returns which rows have any.
func (a *bulkComparison) commands(c *bulkConn, m *blockComparison, rows []int32) []int32 {
	asked := rows[:0]
	for _, i := range rows {
		name, ok := a.t.template.appendName(a.name[:0], a.t.schema, m.rows.only(int(i), a.t.schema.Key))
		if a.name = name; !ok {
			continue // whoever reads it in the slow way says why
		}
		c.out = a.reader.ask(c.out, name)
		if a.t.expires >= 0 {
			c.out = appendBulk(append(c.out, "*2\r\n$11\r\nPEXPIRETIME\r\n"...), name)
		}
		asked = append(asked, i)
	}
	return asked
}

// old tells that a connection is to be left.
func (a *bulkComparison) expired() bool {
	for _, c := range a.conns {
		if c.expired() {
			return true
		}
	}
	return false
}

// end keeps the connections that are not old, unless replies may still be due.
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

// expires reads when the record goes, and tells that this is when the row does.
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
		return false, nil //nolint:nilerr // the slow way says what it is
	}
	if !ever {
		ms = -1
	}
	return int64(at) == ms, nil
}

// matcher asks for records and compares them with rows.
type rowComparer interface {
	ask(dst, name []byte) []byte
	// answered reads the reply about a row whole, whatever it says. The error is the connection's.
	answered(c *bulkConn, m *blockComparison, row int) (same bool, err error)
}

// hashMatcher reads the version and the fields that matter.
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

// answered knows what the reply about an equal record is, but for its version:
// where these bytes have come, nothing has to be parsed.
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

// parsed is answered for replies that are others, or have not come whole.
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

// jsonMatcher reads the document, which is as migrator writes it or is looked at again.
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
		return false, nil //nolint:nilerr // the slow way says what it is
	}
	return bytes.Equal(m.want, text), nil
}
