package postgres

import (
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const lowWaterWait = time.Millisecond // how long a read waits for lowWaterBytes

// lowWaterConn can wait for many bytes at a time (SO_RCVLOWAT). A server sends the rows
// of a COPY in pieces of 8 KiB. Each of them wakes the reader, which costs a tenth of
// the whole work of a comparison.
type lowWaterConn struct {
	*net.TCPConn
	raw     syscall.RawConn
	enabled atomic.Bool

	low int // the value of SO_RCVLOWAT; only the reader uses it

	mu       sync.Mutex
	deadline time.Time // of reads, as set by the connection's owner
}

// withLowWater wraps a connection for setReadLowWater, if the system supports it.
func withLowWater(conn net.Conn) net.Conn {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return conn
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return conn
	}
	return &lowWaterConn{TCPConn: tcp, raw: raw, low: 1}
}

// setReadLowWater enables or disables the wait for lowWaterBytes. It is disabled by
// default: it would delay short replies.
func setReadLowWater(conn net.Conn, on bool) {
	if c, ok := conn.(*lowWaterConn); ok {
		c.enabled.Store(on)
	}
}

// Read waits for lowWaterBytes, and after lowWaterWait for any byte.
func (c *lowWaterConn) Read(p []byte) (int, error) {
	if c.enabled.Load() && len(p) >= lowWaterBytes && c.setLowWater(lowWaterBytes) {
		err := c.setReadDeadline(time.Now().Add(lowWaterWait))
		if err != nil {
			return 0, err
		}
		n, err := c.TCPConn.Read(p)
		if restored := c.setReadDeadline(time.Time{}); restored != nil {
			return n, restored
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return n, err
		}
	}
	c.setLowWater(1)
	return c.TCPConn.Read(p)
}

// setLowWater sets SO_RCVLOWAT, the number of bytes at which the kernel wakes a reader.
func (c *lowWaterConn) setLowWater(bytes int) bool {
	if c.low == bytes {
		return true
	}
	failed := errors.New("closed")
	_ = c.raw.Control(func(fd uintptr) {
		failed = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVLOWAT, bytes)
	})
	if failed == nil {
		c.low = bytes
	}
	return failed == nil
}

// setReadDeadline ends reads at t or at the owner's deadline, whichever is earlier; a
// zero t restores the owner's deadline.
func (c *lowWaterConn) setReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t.IsZero() || !c.deadline.IsZero() && c.deadline.Before(t) {
		t = c.deadline
	}
	return c.TCPConn.SetReadDeadline(t)
}

// SetDeadline implements net.Conn.
func (c *lowWaterConn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// SetReadDeadline implements net.Conn.
func (c *lowWaterConn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deadline = t
	return c.TCPConn.SetReadDeadline(t)
}
