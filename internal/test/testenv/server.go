package testenv

import (
	"context"
	"errors"
	"net"
	"strconv"
	"sync"
	"syscall"
)

// server is the common part of every private server: a program in a directory and on a port of
// its own.
type server struct {
	program program
	dir     *serverDir
	port    int
	quit    syscall.Signal // makes the program shut down cleanly

	mu   sync.Mutex
	proc *process // nil before the first start and once stopped for good
}

var errStopped = errors.New("this server was stopped for good\nTry: start another")

// Addr is the server's host:port.
func (s *server) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)) }

// Log returns the end of the server's log.
func (s *server) Log() string { return s.dir.tail() }

// Version returns the program's version text.
func (s *server) Version() string { return s.program.version }

// Pause freezes all processes of the server: connections stay open without answers. Resume
// continues them.
func (s *server) Pause() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc == nil {
		return errStopped
	}
	_, err := s.proc.freeze()
	return err
}

// Resume ends a Pause.
func (s *server) Resume() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc == nil {
		return errStopped
	}
	return s.proc.thaw()
}

// Kill kills all processes of the server with SIGKILL, like a crash. Restart starts it again.
func (s *server) Kill() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc == nil {
		return nil
	}
	return s.proc.kill()
}

// Stop stops the server for good and removes all of its files.
func (s *server) Stop(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dir == nil || s.dir.lock == nil {
		return nil
	}
	var err error
	if s.proc != nil {
		err = s.proc.stop(ctx, s.quit)
		s.proc = nil
	}
	releasePort(s.port)
	err = errors.Join(err, s.dir.remove())
	s.dir.lock = nil
	return err
}
