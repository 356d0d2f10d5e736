package redis

import (
	"context"
	_ "embed" // the scripts
	"fmt"
	"hash/maphash"
	"strconv"
	"strings"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

var _ store.BulkLoader = (*Target)(nil)

// The limits of one call of the script: a server runs nothing else meanwhile.
const (
	loadRows  = 100
	loadBytes = 64 << 10
)

//go:embed scripts/fill.lua
var fillSource string

// CanBulkLoad implements store.BulkLoader.
func (t *Target) CanBulkLoad() bool { return true }

// BulkLoad implements store.BulkLoader: one pipeline for each server, on its own
// connection. Each script call writes up to loadRows records; in a cluster it writes
// one, since a script may use the keys of one slot only.
func (t *Target) BulkLoad(ctx context.Context, f store.BulkWrite, written []bool) error {
	written = written[:f.Block.Rows()]
	clear(written)
	shares, err := t.shares(ctx, f.Block)
	if err == nil {
		group, ctx := errgroup.WithContext(ctx)
		for client, rows := range shares {
			group.Go(func() error { return t.loadShare(ctx, client, f, rows, written) })
		}
		err = group.Wait()
	}
	if err != nil {
		return fmt.Errorf("bulk load Redis: %w", err)
	}
	return nil
}

// loadShare writes the rows of one server.
func (t *Target) loadShare(ctx context.Context, client *goredis.Client, f store.BulkWrite, rows []int32, written []bool) error {
	buffers, _ := t.buffers.Get().(*loadBuffers)
	if buffers == nil {
		buffers = &loadBuffers{seed: maphash.MakeSeed(), seen: make(map[uint64]struct{}, loadRows)}
	}
	m := blockLoad{
		t: t, written: written, rows: rowsOf(f.Block), each: t.callRows(),
		version: f.Version.AppendText32(nil), late: strconv.FormatInt(f.NotAfter.UnixMicro(), 10), loadBuffers: buffers,
	}
	if t.expires >= 0 {
		m.horizon = strconv.FormatInt(time.Duration(t.horizon.Load()).Milliseconds(), 10)
	}
	if err := t.bulk.with(ctx, client, func(c *bulkConn) error { return m.on(c, rows) }); err != nil {
		return err
	}
	t.buffers.Put(buffers)
	return nil
}

// bulkWriter encodes records for one script.
type bulkWriter interface {
	script() *script
	// head appends the arguments that all records share, and returns their number.
	head(dst []byte) ([]byte, int)
	// record appends one record's arguments, and returns their number; false if the
	// script can't write the record.
	record(dst []byte, r record.Record) ([]byte, int, bool)
}

// blockLoad is the load of one block.
type blockLoad struct {
	t       *Target
	written []bool
	version []byte
	late    string
	horizon string // of the sidecars; "": records don't expire
	rows    blockRows
	each    int // rows of a call, at most

	*loadBuffers
}

// loadBuffers are reused. The buffers of one script call are empty between two calls.
type loadBuffers struct {
	sent       []int32 // rows, in the order of the calls
	ends       []int   // of each call of the script, in sent
	keys, args []byte  // of the call under construction
	expiries   []byte
	count      int                 // of args
	seen       map[uint64]struct{} // sidecars of the call
	seed       maphash.Seed
	name       []byte
	sidecar    []byte
}

// on writes rows by the fast script. Rows that it can't write go to the slow script, and
// so do the rows of refused calls. If the slow script is not refused, the server or
// its user does not support the fast one, which is then not tried again.
func (m *blockLoad) on(c *bulkConn, left []int32) error {
	fast, slow := m.t.codec.bulkWriters(m.version)
	refused, stillRefused := false, false
	var err error
	if !m.t.noFastLoad.Load() {
		if left, refused, err = m.by(c, fast, left); err != nil {
			return err
		}
		// By the same script, one record a call: the slow one would be refused for the same reason.
		if each := m.t.callRows(); each < m.each {
			m.each = each
			if left, refused, err = m.by(c, fast, left); err != nil {
				return err
			}
		}
	}
	if len(left) == 0 {
		return nil
	}
	if _, stillRefused, err = m.by(c, slow, left); err != nil {
		return err
	}
	if refused && !stillRefused {
		m.t.noFastLoad.Store(true)
	}
	return nil
}

// by writes the rows by one bulkWriter. It returns the rows that the writer can't take,
// and those of refused calls.
func (m *blockLoad) by(c *bulkConn, f bulkWriter, rows []int32) (left []int32, refused bool, err error) {
	m.sent, m.ends = m.sent[:0], m.ends[:0]
	for _, i := range rows {
		fits := m.add(f, i)
		if !fits {
			left = append(left, i)
		}
		if m.waiting() == m.each || len(m.args) >= loadBytes {
			m.call(f, c)
		}
		if len(c.out) >= bulkBuffer { // the server starts to work; its replies are short
			if err := c.flush(); err != nil {
				return nil, false, err
			}
		}
	}
	if m.waiting() > 0 {
		m.call(f, c)
	}
	if err := c.flush(); err != nil {
		return nil, false, err
	}
	from := 0
	for _, end := range m.ends {
		ok, err := m.answered(c, m.sent[from:end])
		if err != nil {
			return nil, false, err
		}
		if !ok {
			m.t.noteRefusal(c.refused)
			left, refused = append(left, m.sent[from:end]...), refused || refusesFastPath(c.refused)
		}
		from = end
	}
	return left, refused, nil
}

// refusesFastPath reports whether the server refuses the fast script as such, and not
// just this call.
func refusesFastPath(refusal string) bool {
	text := strings.ToLower(refusal)
	return permanentRefusal(refusal) || strings.Contains(text, "dump payload") || strings.Contains(text, "bad data format")
}

// waiting is the number of rows in the call under construction.
func (m *blockLoad) waiting() int {
	if len(m.ends) == 0 {
		return len(m.sent)
	}
	return len(m.sent) - m.ends[len(m.ends)-1]
}

// add adds a row to the call, or leaves it to Apply, which reports the reason. It
// returns false if the bulkWriter can't take the row.
func (m *blockLoad) add(f bulkWriter, row int32) bool {
	r := m.rows.at(int(row))
	name, ok := m.t.template.appendName(m.name[:0], m.t.schema, r)
	if m.name = name; !ok {
		return true
	}
	if m.sidecar, ok = appendSidecar(m.sidecar[:0], name); !ok && m.t.cluster != nil {
		return true
	}
	mark := maphash.Bytes(m.seed, m.sidecar)
	if _, twice := m.seen[mark]; twice { // or a collision, which costs one Apply
		return true
	}
	expires, ok := m.expiry(r)
	if !ok {
		return true
	}
	before := len(m.args)
	args, n, ok := f.record(m.args, r)
	if !ok {
		m.args = args[:before]
		return false
	}
	if m.t.expires >= 0 {
		m.expiries = appendBulk(m.expiries, expires)
		n++
	}
	m.args, m.count = args, m.count+n
	m.seen[mark] = struct{}{}
	m.keys = appendBulk(appendBulk(m.keys, name), m.sidecar)
	m.sent = append(m.sent, row)
	return true
}

// expiry returns a record's expiry as the script's argument; false if it can't be read.
func (m *blockLoad) expiry(r record.Record) (string, bool) {
	if m.t.expires < 0 {
		return "", true
	}
	ms, ever, err := expiryOf(r[m.t.expires])
	if err != nil || !ever {
		return "", err == nil
	}
	return strconv.FormatInt(ms, 10), true
}

// call appends the script call for the waiting rows. The first call of a pipeline
// sends the script's text, so that the server has it for the others.
func (m *blockLoad) call(f bulkWriter, c *bulkConn) {
	s, rows := f.script(), m.waiting()
	head, shared := f.head(nil)
	c.out = fmt.Appendf(c.out, "*%d\r\n", 6+2*rows+shared+m.count)
	if len(m.ends) == 0 {
		c.out = appendBulk(appendBulk(c.out, "EVAL"), s.source)
	} else {
		c.out = appendBulk(appendBulk(c.out, "EVALSHA"), s.sha)
	}
	c.out = append(appendBulk(c.out, strconv.Itoa(2*rows)), m.keys...)
	c.out = appendBulk(appendBulk(appendBulk(c.out, m.late), m.version), m.horizon)
	c.out = append(append(append(c.out, head...), m.args...), m.expiries...)
	m.ends = append(m.ends, len(m.sent))
	m.keys, m.args, m.expiries, m.count = m.keys[:0], m.args[:0], m.expiries[:0], 0
	clear(m.seen)
}

// answered reads one call's reply; false: the server refused it.
func (m *blockLoad) answered(c *bulkConn, rows []int32) (bool, error) {
	kind, n, err := c.header()
	switch {
	case err != nil || kind == '-':
		return false, err
	case kind != '$' || n < 0:
		return false, errUnexpectedReply
	}
	text, err := c.text(n)
	if err != nil || n == 0 {
		return true, err
	}
	if n != len(rows) {
		return false, errUnexpectedReply
	}
	for at, row := range rows {
		m.written[row] = text[at] == '1'
	}
	return true, nil
}
