package testenv

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"
)

var (
	takenMu sync.Mutex
	taken   = map[int]bool{} // ports of servers of this process, running or not
)

// A Redis cluster node also listens on its port + 10000.
const busOffset = 10000

// freePort picks a port without a listener, together with the port busOffset above it. Both
// are below the range of outgoing connections: from inside the range a client that keeps
// dialling a dead server can connect to itself, and then occupies the port that the server
// needs. Another process may still take the port first: the caller retries a start whose bind
// failed.
func freePort() (int, error) {
	takenMu.Lock()
	defer takenMu.Unlock()
	low, high := 12000, min(ephemeralLow()-busOffset, 22000)
	for range 200 {
		if high <= low {
			break
		}
		port := low + rand.IntN(high-low)
		if !taken[port] && listens(port) && listens(port+busOffset) {
			taken[port] = true
			return port, nil
		}
	}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port on 127.0.0.1: %w", err)
	}
	defer func() { _ = l.Close() }()
	addr, ok := l.Addr().(*net.TCPAddr)
	if !ok {
		return 0, errors.New("find a free port on 127.0.0.1: not a TCP address")
	}
	taken[addr.Port] = true
	return addr.Port, nil
}

func releasePort(port int) {
	takenMu.Lock()
	defer takenMu.Unlock()
	delete(taken, port)
}

// listens reports whether a server could listen on the port now.
func listens(port int) bool {
	l, err := net.Listen("tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return false
	}
	return l.Close() == nil
}

// answers reports whether a server accepts connections at addr. A listener instead of a client
// would take the port from a server that is about to bind it.
func answers(addr string) bool {
	conn, err := net.DialTimeout("tcp4", addr, time.Second)
	if err != nil {
		return false
	}
	return conn.Close() == nil
}

// retryBind retries a server's start while its port is taken: briefly by the freePort of
// another process, or permanently, so that a first start picks another port.
func retryBind(ctx context.Context, start func(context.Context) error) error {
	for attempt := 1; ; attempt++ {
		err := start(ctx)
		if err == nil || attempt == 20 || !strings.Contains(err.Error(), "Address already in use") {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(20 * time.Millisecond):
		}
	}
}
