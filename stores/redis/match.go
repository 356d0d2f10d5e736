package redis

import (
	"bytes"
	"context"
	"fmt"

	goredis "github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"github.com/stranglerfig/migrator/record"
)

var _ record.Matcher = (*Target)(nil)

// CanMatch implements record.Matcher.
func (t *Target) CanMatch() bool { return true }

// Match implements record.Matcher: one pipeline for each server, on a connection of
// its own, its replies compared where they lie.
func (t *Target) Match(ctx context.Context, b *record.Block, fields []int, high record.Version, same []bool) error {
	same = same[:b.Rows()]
	clear(same)
	if t.expires >= 0 && t.noExpireTime.Load() {
		return nil // an expiry can't be told to the millisecond
	}
	shares, err := t.shares(ctx, b)
	if err == nil {
		group, ctx := errgroup.WithContext(ctx)
		for client, rows := range shares {
			m := matching{t: t, rows: rowsOf(b), fields: fields, same: same, asked: rows, known: record.NewCeiling(high)}
			group.Go(func() error { return t.bulk.with(ctx, client, m.on) })
		}
		err = group.Wait()
	}
	if err != nil {
		return fmt.Errorf("match in Redis: %w", err)
	}
	return nil
}

// shares tells which rows are for which server to say. A slot that is on the move
// is refused by the server; then whoever reads in the slow way finds it.
func (t *Target) shares(ctx context.Context, b *record.Block) (map[*goredis.Client][]int32, error) {
	shares := map[*goredis.Client][]int32{}
	var name []byte
	rows, ok := rowsOf(b), false
	single, _ := t.client.(*goredis.Client)
	for i := range b.Rows() {
		client := single
		if t.cluster != nil {
			if name, ok = t.template.appendName(name[:0], t.schema, rows.only(i, t.schema.Key)); !ok {
				continue
			}
			var err error
			if client, err = t.cluster.MasterForKey(ctx, string(name)); err != nil {
				return nil, because(ctx, err)
			}
		}
		shares[client] = append(shares[client], int32(i))
	}
	return shares, nil
}

// matching is the comparison of those of a block's rows that one server has.
type matching struct {
	t      *Target
	rows   blockRows
	fields []int
	known  record.Ceiling // of versions that legacy has given by now
	same   []bool
	asked  []int32 // rows
	sent   []int32 // those of them that have a name
	name   []byte
	want   []byte
}

func (m *matching) on(c *bulkConn) error {
	reader := m.t.codec.matcher(m.fields)
	for _, i := range m.asked {
		name, ok := m.t.template.appendName(m.name[:0], m.t.schema, m.rows.only(int(i), m.t.schema.Key))
		if m.name = name; !ok {
			continue // whoever reads it in the slow way says why
		}
		c.out = reader.ask(c.out, name)
		if m.t.expires >= 0 {
			c.out = appendBulk(append(c.out, "*2\r\n$11\r\nPEXPIRETIME\r\n"...), name)
		}
		m.sent = append(m.sent, i)
	}
	if err := c.flush(); err != nil {
		return err
	}
	for _, i := range m.sent {
		same, err := reader.answered(c, m, int(i))
		if err != nil {
			return err
		}
		if m.t.expires >= 0 {
			expires, err := m.expires(c, int(i))
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
func (m *matching) expires(c *bulkConn, row int) (same bool, err error) {
	kind, at, err := c.header()
	if err != nil || kind == '-' {
		return false, err
	}
	if kind != ':' {
		return false, errBulk
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
type matcher interface {
	ask(dst, name []byte) []byte
	// answered reads the reply about a row whole, whatever it says. The error is the connection's.
	answered(c *bulkConn, m *matching, row int) (same bool, err error)
}

// hashMatcher reads the version and the fields that matter.
type hashMatcher struct {
	head, tail []byte // of the command, around the name
	open       []byte // of the reply, before the version
	fields     []int
}

func (c *hashCodec) matcher(fields []int) matcher {
	m := &hashMatcher{fields: fields}
	m.head = fmt.Appendf(nil, "*%d\r\n$5\r\nHMGET\r\n", 3+len(fields))
	m.tail = appendBulk(nil, c.reserved)
	for _, f := range fields {
		m.tail = appendBulk(m.tail, c.names[f])
	}
	m.open = fmt.Appendf(nil, "*%d\r\n$%d\r\n", 1+len(fields), record.VersionDigits)
	return m
}

func (h *hashMatcher) ask(dst, name []byte) []byte {
	return append(appendBulk(append(dst, h.head...), name), h.tail...)
}

// answered knows what the reply about an equal record is, but for its version:
// where these bytes have come, nothing has to be parsed.
func (h *hashMatcher) answered(c *bulkConn, m *matching, row int) (bool, error) {
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
	same := m.known.Covers(reply[len(h.open):end])
	_, err := c.in.Discard(len(reply))
	return same, err
}

// parsed is answered for replies that are others, or have not come whole.
func (h *hashMatcher) parsed(c *bulkConn, m *matching, row int) (bool, error) {
	kind, n, err := c.header()
	if err != nil || kind == '-' {
		return false, err
	}
	if kind != '*' || n != 1+len(h.fields) {
		return false, errBulk
	}
	same := true
	for i := range n {
		kind, size, err := c.header()
		if err != nil {
			return false, err
		}
		if kind != '$' {
			return false, errBulk
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
			same = m.known.Covers(text)
		default:
			want, present := m.rows.block.Cell(row, h.fields[i-1])
			same = (size >= 0) == present && bytes.Equal(text, want)
		}
	}
	return same, nil
}

// jsonMatcher reads the document, which is as migrator writes it or is looked at again.
type jsonMatcher struct {
	codec *jsonCodec
	all   bool
}

func (c *jsonCodec) matcher(fields []int) matcher {
	return &jsonMatcher{codec: c, all: len(fields) == len(c.schema.Fields)}
}

func (j *jsonMatcher) ask(dst, name []byte) []byte {
	return appendBulk(append(dst, "*2\r\n$3\r\nGET\r\n"...), name)
}

func (j *jsonMatcher) answered(c *bulkConn, m *matching, row int) (bool, error) {
	kind, n, err := c.header()
	if err != nil || kind == '-' {
		return false, err
	}
	if kind != '$' {
		return false, errBulk
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
	if !m.known.Covers(version) {
		return false, nil
	}
	if m.want, err = j.codec.encode(m.want[:0], version, m.rows.at(row)); err != nil {
		return false, nil //nolint:nilerr // the slow way says what it is
	}
	return bytes.Equal(m.want, text), nil
}
