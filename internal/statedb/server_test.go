package statedb

import (
	"errors"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/stranglerfig/migrator/internal/hint"
)

// oldServer lets clients in, says its version, and wants no statement.
func oldServer(t *testing.T, version string) (url string, statements chan pgproto3.FrontendMessage) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	statements = make(chan pgproto3.FrontendMessage, 10)
	go func() {
		defer close(statements)
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		server := pgproto3.NewBackend(conn, conn)
		if _, err := server.ReceiveStartupMessage(); err != nil {
			t.Error(err)
			return
		}
		server.Send(&pgproto3.AuthenticationOk{})
		server.Send(&pgproto3.ParameterStatus{Name: "server_version", Value: version})
		server.Send(&pgproto3.BackendKeyData{ProcessID: 1, SecretKey: []byte{0, 0, 0, 1}})
		server.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
		if err := server.Flush(); err != nil {
			t.Error(err)
			return
		}
		for {
			message, err := server.Receive()
			if err != nil {
				if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
					t.Error(err)
				}
				return
			}
			if _, ends := message.(*pgproto3.Terminate); !ends {
				statements <- message
				return
			}
		}
	}()
	return "postgres://postgres@" + listener.Addr().String() + "/state?sslmode=disable", statements
}

// TestAnOldServerIsRefusedBeforeTheFirstStatement, whatever its package calls it.
func TestAnOldServerIsRefusedBeforeTheFirstStatement(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"13.23", "12.22 (Debian 12.22-1.pgdg120+1)", "13beta1", "9.6.24"} {
		url, statements := oldServer(t, version)
		cfg, err := ParseURL(url)
		if err != nil {
			t.Fatal(err)
		}
		_, err = Connect(t.Context(), cfg)
		if h, _ := hint.Of(err); err == nil || !strings.Contains(err.Error(), "PostgreSQL "+version+": 14 is the oldest") || h.Do != hint.SetStateURL {
			t.Errorf("%s: %v", version, err)
		}
		if message, sent := <-statements; sent {
			t.Errorf("%s: it was sent %T", version, message)
		}
	}
}
