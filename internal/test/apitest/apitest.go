// Package apitest serves the HTTP API of a state database to tests: with the handler that the daemon serves, tokens of
// roles, and every grant checked by the state.
package apitest

import (
	"context"
	"crypto/rand"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/internal/api"
	"github.com/stranglerfig/migrator/internal/server"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/statedb"
)

// Server serves the HTTP API of one state database.
type Server struct {
	URL   string // of its root: endpoints are below /api/v1
	Owner *state.Store

	t     testing.TB
	state string
	stop  func()
}

// New serves the API of the state database of an owner.
func New(t testing.TB, owner *state.Store, stateURL string) *Server {
	t.Helper()
	s := &Server{Owner: owner, t: t, state: stateURL}
	s.Start()
	return s
}

// Start serves with a role of its own, which has the grant of a server and nothing else.
func (s *Server) Start() {
	t := s.t
	t.Helper()
	role, roleURL := NewRole(t, s.state)
	must(t, s.Owner.Grant(t.Context(), state.Grant{Kind: state.Server, Role: role}))
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	own, err := state.Open(ctx, roleURL)
	must(t, err)
	calls, err := own.ForTokens(ctx)
	must(t, err)
	directory := &server.Directory{Read: func(ctx context.Context) (server.Published, error) { return api.Published(ctx, own) }, Notified: own.Notified}
	operations := &api.API{State: calls}
	mux := http.NewServeMux()
	(&server.Endpoints{
		Directory: directory, List: operations.List(), WithToken: statedb.WithToken, Explain: operations.Explain, Rate: 100_000, Most: int(calls.Pool().Config().MaxConns),
	}).Register(mux)
	listening := httptest.NewServer(mux)
	s.URL = listening.URL
	ended := make(chan struct{})
	go func() { defer close(ended); _ = directory.Run(ctx) }()
	s.stop = func() {
		cancel()
		<-ended
		listening.CloseClientConnections()
		listening.Close()
		calls.Close()
		own.Close()
		s.stop = func() {}
	}
	t.Cleanup(func() { s.stop() })
}

// Stop ends it as a crash does: connections break.
func (s *Server) Stop() { s.stop() }

// Token is one of a role, once the server knows it.
func (s *Server) Token(role string) string {
	s.t.Helper()
	token, _, err := s.Owner.CreateToken(s.t.Context(), state.NewToken{Role: role, Lives: time.Hour})
	must(s.t, err)
	s.Await(token)
	return token
}

// Await returns when the server knows the token.
func (s *Server) Await(token string) {
	s.t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		r := httptest.NewRequest(http.MethodGet, s.URL+server.Base+"/openapi.json", nil)
		r.RequestURI = ""
		r.Header.Set("Authorization", "Bearer "+token)
		answer, err := http.DefaultClient.Do(r)
		if err == nil {
			_ = answer.Body.Close()
			if answer.StatusCode == http.StatusOK {
				return
			}
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("the server does not know the token: %v", err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// Application is a token of a new role that is an application of the migration.
func (s *Server) Application(migration string) (role, token string) {
	s.t.Helper()
	return s.Granted(state.Application, migration)
}

// Granted is a token of a new role with a grant.
func (s *Server) Granted(kind state.Kind, migrations ...string) (role, token string) {
	s.t.Helper()
	role, _ = NewRole(s.t, s.state)
	must(s.t, s.Owner.Grant(s.t.Context(), state.Grant{Kind: kind, Role: role, Migrations: migrations}))
	return role, s.Token(role)
}

// NewRole creates a role, and returns the URL that it connects with.
func NewRole(t testing.TB, dbURL string) (role, roleURL string) {
	t.Helper()
	role = "api_test_" + strings.ToLower(rand.Text()[:10])
	run(t, dbURL, `CREATE ROLE `+role+` LOGIN PASSWORD 'pw'`)
	t.Cleanup(func() { run(t, dbURL, `DROP OWNED BY `+role+` CASCADE; DROP ROLE `+role) })
	u, err := url.Parse(dbURL)
	must(t, err)
	u.User = url.UserPassword(role, "pw")
	return role, u.String()
}

func run(t testing.TB, dbURL, sql string) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	conn, err := pgx.Connect(ctx, dbURL)
	must(t, err)
	defer func() { _ = conn.Close(ctx) }()
	_, err = conn.Exec(ctx, sql)
	must(t, err)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
