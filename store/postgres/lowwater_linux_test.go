package postgres

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"
)

// TestReadLowWater: a connection with a low-water mark returns every byte, also if no more
// arrive, and respects its owner's deadline.
func TestReadLowWater(t *testing.T) {
	t.Parallel()
	var listen net.ListenConfig
	listener, err := listen.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	accepted := make(chan net.Conn, 1)
	go func() {
		if c, err := listener.Accept(); err == nil {
			accepted <- c
		}
	}()
	dialed, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	conn, server := withLowWater(dialed), <-accepted
	t.Cleanup(func() { _, _ = conn.Close(), server.Close() })
	setReadLowWater(conn, true)
	buffer := make([]byte, 2*lowWaterBytes)
	for range 3 {
		if _, err := server.Write([]byte("short")); err != nil {
			t.Fatal(err)
		}
		if n, err := conn.Read(buffer); err != nil || string(buffer[:n]) != "short" {
			t.Fatalf("read %q: %v", buffer[:n], err)
		}
	}
	long := bytes.Repeat([]byte("0123456789abcdef"), 100_000)
	go func() {
		for at := 0; at < len(long); at += 8000 {
			if _, err := server.Write(long[at:min(at+8000, len(long))]); err != nil {
				return
			}
		}
	}()
	got := make([]byte, 0, len(long))
	for len(got) < len(long) {
		n, err := conn.Read(buffer)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, buffer[:n]...)
	}
	if !bytes.Equal(got, long) {
		t.Error("a long text was received differently")
	}
	ctx, cancel := context.WithCancel(t.Context())
	context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	go cancel()
	if n, err := conn.Read(buffer); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("past its deadline it read %d bytes: %v", n, err)
	}
	_ = conn.SetDeadline(time.Time{})
	setReadLowWater(conn, false)
	if _, err := server.Write([]byte("fine")); err != nil {
		t.Fatal(err)
	}
	if n, err := conn.Read(buffer); err != nil || string(buffer[:n]) != "fine" {
		t.Errorf("read %q: %v", buffer[:n], err)
	}
	_ = server.Close()
	if _, err := conn.Read(buffer); !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %v", err)
	}
}
