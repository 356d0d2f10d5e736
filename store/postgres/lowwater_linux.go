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

const lowWaterWait = time.Millisecond // so long, at most, some bytes wait for more

// coarseConn can wait for many bytes at a time. A server sends the rows of a COPY in
// pieces of 8 KiB, and each of them wakes whoever waits for it, for a tenth of the
// whole work of a comparison.
type lowWaterConn struct {
	*net.TCPConn
	raw     syscall.RawConn
	enabled atomic.Bool

	low int // what the kernel was told; of the one who reads

	mu       sync.Mutex
	deadline time.Time // of reads, as the owner has it
}

// withLowWater makes a connection that can be coarse, if the system knows how.
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

// setReadLowWater switches it; false by default: an answer that is short would come late.
func setReadLowWater(conn net.Conn, on bool) {
	if c, ok := conn.(*lowWaterConn); ok {
		c.enabled.Store(on)
	}
}

// Read waits for coarseBytes, and after coarseWait for any.
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

// wake tells the kernel for how many bytes a reader is woken.
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

// until ends reads at t, or when the owner wants, whichever comes first; zero: when
// the owner wants.
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
