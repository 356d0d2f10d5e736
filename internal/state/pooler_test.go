package state_test

import (
	"context"
	"errors"
	"net"
	"net/url"
	"slices"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/statedb"
)

// pooler gives the sessions of a real server to its clients: for a transaction, or (whole) for as long
// as a client is connected.
type pooler struct {
	ctx   context.Context
	url   string
	whole bool

	mu   sync.Mutex
	idle []*pgconn.HijackedConn
}

func startPooler(t *testing.T, dbURL string, whole bool) string {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	must(t, err)
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	p := &pooler{ctx: ctx, url: dbURL, whole: whole}
	var clients sync.WaitGroup
	t.Cleanup(func() {
		_ = listener.Close()
		stop()
		clients.Wait()
		for _, s := range p.idle {
			_ = s.Conn.Close()
		}
	})
	clients.Go(func() {
		for pid := uint32(4_000_000); ; pid++ {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			end := context.AfterFunc(ctx, func() { _ = conn.Close() })
			clients.Go(func() {
				defer end()
				defer func() { _ = conn.Close() }()
				p.serve(conn, pid)
			})
		}
	})
	u, err := url.Parse(dbURL)
	must(t, err)
	u.Host = listener.Addr().String()
	return u.String()
}

func (p *pooler) take() (*pgconn.HijackedConn, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.idle); n > 0 {
		s := p.idle[n-1]
		p.idle = p.idle[:n-1]
		return s, nil
	}
	conn, err := pgconn.Connect(p.ctx, p.url)
	if err != nil {
		return nil, err
	}
	return conn.Hijack()
}

func (p *pooler) give(s *pgconn.HijackedConn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.idle = append(p.idle, s)
}

func (p *pooler) serve(conn net.Conn, pid uint32) {
	client := pgproto3.NewBackend(conn, conn)
	for {
		first, err := client.ReceiveStartupMessage()
		if err != nil {
			return
		}
		if _, ok := first.(*pgproto3.StartupMessage); ok {
			break
		}
		if _, err := conn.Write([]byte("N")); err != nil { // no TLS here
			return
		}
	}
	client.Send(&pgproto3.AuthenticationOk{})
	client.Send(&pgproto3.ParameterStatus{Name: "standard_conforming_strings", Value: "on"})
	client.Send(&pgproto3.ParameterStatus{Name: "client_encoding", Value: "UTF8"})
	client.Send(&pgproto3.BackendKeyData{ProcessID: pid, SecretKey: []byte{1, 2, 3, 4}})
	client.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
	if client.Flush() != nil {
		return
	}
	var server *pgconn.HijackedConn
	defer func() {
		if server != nil {
			_ = server.Conn.Close()
		}
	}()
	for {
		m, err := client.Receive()
		if err != nil {
			return
		}
		if _, ok := m.(*pgproto3.Terminate); ok {
			return
		}
		if server == nil {
			if server, err = p.take(); err != nil {
				return
			}
		}
		server.Frontend.Send(m)
		switch m.(type) {
		case *pgproto3.Query, *pgproto3.Sync:
		default:
			continue
		}
		status, err := relay(client, server.Frontend)
		if err != nil {
			return
		}
		if status == 'I' && !p.whole {
			p.give(server)
			server = nil
		}
	}
}

func relay(client *pgproto3.Backend, server *pgproto3.Frontend) (status byte, err error) {
	if err := server.Flush(); err != nil {
		return 0, err
	}
	for {
		m, err := server.Receive()
		if err != nil {
			return 0, err
		}
		client.Send(m)
		if ready, ok := m.(*pgproto3.ReadyForQuery); ok {
			return ready.TxStatus, client.Flush()
		}
	}
}

// TestAPoolerThatSharesSessionsIsRefused where the state is opened, checked and made. One that keeps
// a session for each client is not.
func TestAPoolerThatSharesSessionsIsRefused(t *testing.T) {
	t.Parallel()
	_, dbURL := open(t)
	shared := startPooler(t, dbURL, false)
	refused := func(what string, err error) {
		t.Helper()
		f, _ := hint.FailureOf(err)
		h, _ := hint.Of(err)
		if f.Code != "pooler" || !errors.Is(err, statedb.ErrWrongURL) || h.Do != hint.SetStateURL {
			t.Errorf("%s: %v, %+v", what, err, h)
		}
	}
	for range 3 { // each has other sessions to choose from
		_, err := state.Open(t.Context(), shared)
		refused("open", err)
	}
	_, _, err := state.Migrate(t.Context(), shared)
	refused("init", err)
	if checks := state.Check(t.Context(), shared); len(checks) != 1 || checks[0].Hint.Do != hint.SetStateURL {
		t.Errorf("%+v", checks)
	}
	s, err := state.Open(t.Context(), startPooler(t, dbURL, true))
	must(t, err)
	defer s.Close()
	if _, err := s.Status(t.Context(), testMigration); err != nil {
		t.Error(err)
	}
}

// TestLed: a daemon that leads is seen in another session, and its end too.
func TestLed(t *testing.T) {
	t.Parallel()
	s, _ := open(t)
	led := func() bool {
		t.Helper()
		yes, err := s.Led(t.Context(), state.LeaderName(testMigration))
		must(t, err)
		other, err := s.Led(t.Context(), state.LeaderName("another"))
		must(t, err)
		if other {
			t.Error("another migration is led")
		}
		return yes
	}
	seen := []bool{led()}
	must(t, s.Lead(t.Context(), state.LeaderName(testMigration), func(context.Context) error {
		seen = append(seen, led())
		return nil
	}))
	if seen = append(seen, led()); !slices.Equal(seen, []bool{false, true, false}) {
		t.Errorf("%v", seen)
	}
}
