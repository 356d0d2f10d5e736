package server_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/stranglerfig/migrator/internal/daemon"
	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/server"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/test/statetest"
)

func TestCheckLoopback(t *testing.T) {
	t.Parallel()
	for address, good := range map[string]bool{
		"127.0.0.1:7070": true, "127.8.9.1:0": true, "[::1]:7070": true, "localhost:7070": true,
		":7070": false, "0.0.0.0:7070": false, "[::]:7070": false, "192.0.2.1:7070": false, "example.com:80": false,
		"127.0.0.1": false, "": false, "localhost.example.com:1": false, "[::ffff:192.0.2.1]:1": false, "[fe80::1%lo]:1": false,
	} {
		err := server.CheckLoopback(address)
		if (err == nil) != good {
			t.Errorf("%q: %v", address, err)
		}
		if h, _ := hint.Of(err); err != nil && h.Do != hint.Listen {
			t.Errorf("%q: no hint of %v", address, err)
		}
	}
}

func api(ping error) http.Handler {
	return (&server.API{
		Ping: func(context.Context) error { return ping },
		Role: func() string { return "standby" },
		Status: func(context.Context) (any, error) {
			return []string{"<m>"}, ping
		},
		Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "metrics") }),
	}).Handler()
}

func TestEndpoints(t *testing.T) {
	t.Parallel()
	down := errors.New("dial tcp 192.0.2.7: password authentication failed for user alice")
	for _, c := range []struct {
		method, path string
		ping         error
		code         int
		body         string
	}{
		{"GET", "/healthz", nil, 200, `"role": "standby"`},
		{"HEAD", "/healthz", nil, 200, ``},
		{"GET", "/healthz", down, 503, `can't be read`},
		{"GET", "/status", nil, 200, `"<m>"`},
		{"GET", "/status", down, 503, `can't be read`},
		{"GET", "/metrics", nil, 200, `metrics`},
		{"GET", "/", nil, 404, ``},
		{"GET", "/status/m", nil, 404, ``},
		{"POST", "/status", nil, 405, ``},
		{"DELETE", "/healthz", nil, 405, ``},
	} {
		w := httptest.NewRecorder()
		api(c.ping).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), c.method, c.path, http.NoBody))
		if w.Code != c.code || !strings.Contains(w.Body.String(), c.body) {
			t.Errorf("%s %s: %d %s", c.method, c.path, w.Code, w.Body)
		}
		if strings.Contains(w.Body.String(), "alice") {
			t.Errorf("%s %s shows the database's error", c.method, c.path)
		}
		if w.Code == 200 && c.path != "/metrics" && c.method == "GET" && !json.Valid(w.Body.Bytes()) {
			t.Errorf("%s is no JSON: %s", c.path, w.Body)
		}
	}
}

// TestDaemonStopsCleanly: while it leads, and while a client never completes its request.
func TestDaemonStopsCleanly(t *testing.T) {
	t.Parallel()
	url := statetest.URL(t)
	store, err := state.Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	g, serving := errgroup.WithContext(ctx)
	g.Go(func() error { return server.Serve(serving, listener, api(nil), server.Options{}) })
	leads := make(chan struct{})
	g.Go(func() error {
		return store.Lead(serving, "keep m", func(ctx context.Context) error {
			close(leads)
			return (&daemon.Maintainer{Migration: "m", State: store}).Run(ctx)
		})
	})
	<-leads
	slow, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = slow.Close() }()
	if _, err := io.WriteString(slow, "GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: "); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	stop()
	if err := g.Wait(); err != nil {
		t.Errorf("it ended with %v", err)
	}
	if took := time.Since(began); took > time.Minute {
		t.Errorf("it took %s to stop", took)
	}
}
