package redis

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

// bulkConn is a dedicated connection to one server, for commands whose replies are
// compared in the read buffer. Topology, TLS and credentials come from the client;
// this type only reads and writes bytes.
type bulkConn struct {
	net.Conn
	born    time.Time
	in      *bufio.Reader
	out     []byte
	big     []byte // a reply that does not fit into the buffer
	refused string // the text of the last error reply
}

const (
	bulkBuffer  = 256 << 10
	bulkTimeout = 30 * time.Second // for one batch, if the context has no deadline
	// bulkMaxAge limits the use of a connection: its server may have lost the role of
	// master without knowing it. A new connection resolves the master again.
	bulkMaxAge = time.Second
)

// errUnexpectedReply reports a reply that the protocol does not allow at this point.
var errUnexpectedReply = errors.New("unexpected reply from Redis")

// dialBulk connects with the client's options.
func dialBulk(ctx context.Context, o *goredis.Options) (*bulkConn, error) {
	conn, err := o.Dialer(ctx, o.Network, o.Addr)
	if err != nil {
		return nil, (&withholding{encrypted: o.TLSConfig != nil}).undialed(ctx, o.Network, o.Addr, err)
	}
	c := &bulkConn{Conn: conn, born: time.Now(), in: bufio.NewReaderSize(conn, bulkBuffer)}
	if err := c.login(ctx, o); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return c, nil
}

func (c *bulkConn) login(ctx context.Context, o *goredis.Options) error {
	commands := 0
	queue := func(args ...string) {
		commands++
		c.out = appendCommand(c.out, args...)
	}
	switch {
	case o.Username != "":
		queue("AUTH", o.Username, o.Password)
	case o.Password != "":
		queue("AUTH", o.Password)
	}
	if o.DB > 0 {
		queue("SELECT", strconv.Itoa(o.DB))
	}
	if commands == 0 {
		return nil
	}
	return c.during(ctx, func() error {
		if err := c.flush(); err != nil {
			return err
		}
		for range commands {
			line, err := c.line()
			if err != nil {
				return err
			}
			if !bytes.Equal(line, []byte("+OK")) {
				return errUnexpectedReply // the reply may quote the password
			}
		}
		return nil
	})
}

// expired reports whether the connection must be closed once no reply is outstanding.
func (c *bulkConn) expired() bool { return time.Since(c.born) > bulkMaxAge }

// during applies the context's deadline and cancellation to the reads and writes of do.
func (c *bulkConn) during(ctx context.Context, do func() error) error {
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(bulkTimeout)
	}
	if err := c.SetDeadline(deadline); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	err := do()
	if !stop() && err == nil { // else the next user of the connection would inherit this deadline
		err = ctx.Err()
	}
	if err != nil {
		return contextError(ctx, err)
	}
	return nil
}

func (c *bulkConn) flush() error {
	_, err := c.Write(c.out)
	c.out = c.out[:0]
	return err
}

func appendCommand(dst []byte, args ...string) []byte {
	dst = append(strconv.AppendInt(append(dst, '*'), int64(len(args)), 10), "\r\n"...)
	for _, a := range args {
		dst = appendBulk(dst, a)
	}
	return dst
}

func appendBulk[T string | []byte](dst []byte, arg T) []byte {
	return append(append(appendSize(dst, len(arg)), arg...), "\r\n"...)
}

// appendSize appends the header of a string of n bytes. Most strings are short.
func appendSize(dst []byte, n int) []byte {
	switch {
	case n < 10:
		return append(dst, '$', byte('0'+n), '\r', '\n')
	case n < 100:
		return append(dst, '$', byte('0'+n/10), byte('0'+n%10), '\r', '\n')
	}
	return append(strconv.AppendInt(append(dst, '$'), int64(n), 10), "\r\n"...)
}

// line reads to the end of a line, which is valid until the next read.
func (c *bulkConn) line() ([]byte, error) {
	line, err := c.in.ReadSlice('\n')
	if err != nil {
		return nil, err
	}
	if len(line) < 3 || line[len(line)-2] != '\r' {
		return nil, errUnexpectedReply
	}
	return line[:len(line)-2], nil
}

// header reads the first line of a reply, and the number in it.
func (c *bulkConn) header() (kind byte, n int, err error) {
	line, err := c.line()
	if err != nil {
		return 0, 0, err
	}
	switch line[0] {
	case '-':
		c.refused = withholdText(string(line[1:]))
		return '-', 0, nil
	case '+':
		return '+', 0, nil
	case '$', '*', ':':
		if n, err = strconv.Atoi(string(line[1:])); err != nil || n < -1 && line[0] != ':' {
			return 0, 0, errUnexpectedReply
		}
		return line[0], n, nil
	case '_':
		return '$', -1, nil
	default:
		return 0, 0, fmt.Errorf("%w: type %q", errUnexpectedReply, line[0])
	}
}

// arrived returns the next n bytes if all of them are buffered. It waits for the first
// byte only. The result is valid until the next read.
func (c *bulkConn) arrived(n int) []byte {
	if c.in.Buffered() == 0 {
		if _, err := c.in.Peek(1); err != nil {
			return nil // the next read returns the same error
		}
	}
	if c.in.Buffered() < n {
		return nil
	}
	b, _ := c.in.Peek(n)
	return b
}

// text reads a string of n bytes, valid until the next read.
func (c *bulkConn) text(n int) ([]byte, error) {
	if n+2 <= c.in.Size() {
		b, err := c.in.Peek(n + 2)
		if err != nil {
			return nil, err
		}
		_, err = c.in.Discard(n + 2)
		return b[:n], err
	}
	if cap(c.big) < n+2 {
		c.big = make([]byte, n+2)
	}
	c.big = c.big[:n+2]
	for at := 0; at < len(c.big); {
		got, err := c.in.Read(c.big[at:])
		if err != nil {
			return nil, err
		}
		at += got
	}
	return c.big[:n], nil
}
