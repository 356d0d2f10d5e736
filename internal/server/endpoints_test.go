package server_test

import (
	"bufio"
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stranglerfig/migrator/internal/server"
	"github.com/stranglerfig/migrator/phases"
)

type tokenOf struct{}

// endpoints are those of a test, whose operations get the token by their context.
func endpoints(s *source, list ...server.Endpoint) (*server.Endpoints, *http.ServeMux) {
	e := &server.Endpoints{
		Directory: &server.Directory{Read: s.read, Notified: s.notified}, List: list, Heartbeat: 10 * time.Millisecond,
		WithToken: func(ctx context.Context, token string) context.Context {
			return context.WithValue(ctx, tokenOf{}, token)
		},
		Explain: func(err error) *server.Problem { return server.NewProblem(server.Internal, "%s", err) },
	}
	mux := http.NewServeMux()
	e.Register(mux)
	return e, mux
}

// TestEpochsAreEvents: the present one, each that follows, comments in between, and the end with the token.
func TestEpochsAreEvents(t *testing.T) {
	t.Parallel()
	s := newSource(published("products", phases.Legacy, 0, 1), published("hidden", phases.Legacy, 0, 1))
	e, mux := endpoints(s, server.Epochs(server.Endpoint{ID: "events", Method: http.MethodGet, Path: "/migrations/{migration}/events"}))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var all sync.WaitGroup
	all.Go(func() { _ = e.Run(ctx) })
	all.Go(func() { _ = server.Serve(ctx, listener, mux, server.Options{}) })
	t.Cleanup(func() { stop(); all.Wait() })
	follow := func(token, migration string) *http.Response {
		t.Helper()
		for {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+listener.Addr().String()+"/api/v1/migrations/"+migration+"/events", nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Authorization", "Bearer "+token)
			answer, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = answer.Body.Close() })
			if answer.StatusCode != http.StatusServiceUnavailable { // until the tokens were read
				return answer
			}
		}
	}
	for migration, want := range map[string]int{"hidden": http.StatusNotFound, "nothing": http.StatusNotFound} {
		if answer := follow("mgt_one", migration); answer.StatusCode != want {
			t.Errorf("%s: %d", migration, answer.StatusCode)
		}
	}
	if answer := follow("mgt_guess", "products"); answer.StatusCode != http.StatusUnauthorized {
		t.Errorf("a guess: %d", answer.StatusCode)
	}
	stream := follow("mgt_one", "products")
	lines := bufio.NewScanner(stream.Body)
	next := func(prefix string) string {
		for lines.Scan() {
			if strings.HasPrefix(lines.Text(), prefix) {
				return lines.Text()
			}
		}
		return ""
	}
	if got := next("data:"); got != `data: {"epoch":1}` {
		t.Errorf("first: %q", got)
	}
	if got := next(":"); got != ":" {
		t.Errorf("no heartbeat: %q", got)
	}
	s.set(func() { s.what.Routes[0] = published("products", phases.ShadowWrite, 0, 2) })
	if got := next("data:"); got != `data: {"epoch":2}` {
		t.Errorf("second: %q", got)
	}
	if e.Streams() != 1 {
		t.Errorf("%d streams", e.Streams())
	}
	s.set(func() { delete(s.what.Bearers, hashed("mgt_one")) })
	for lines.Scan() { // it ends
	}
}

// TestOperationsWaitForTheirTurn: not longer than that makes sense, and not for a client that has gone.
func TestOperationsWaitForTheirTurn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSource(published("products", phases.Legacy, 0, 1))
		release, done := make(chan struct{}), 0
		e, _ := endpoints(s, server.Handle(server.Endpoint{ID: "slow", Method: http.MethodPost, Path: "/slow"},
			func(ctx context.Context, _ *server.Call, _ server.None) (server.None, error) {
				if ctx.Value(tokenOf{}) != "mgt_one" {
					t.Error("the operation has not its token")
				}
				<-release
				if done++; done == 2 {
					return server.None{}, errors.New("it failed")
				}
				return server.None{}, ctx.Err()
			}))
		e.Most = 1
		mux := http.NewServeMux()
		e.Register(mux)
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- e.Run(ctx) }()
		synctest.Wait()
		ask := func(ctx context.Context) chan *httptest.ResponseRecorder {
			w, answered := httptest.NewRecorder(), make(chan *httptest.ResponseRecorder, 1)
			r := httptest.NewRequestWithContext(ctx, http.MethodPost, "/api/v1/slow", http.NoBody)
			r.Header.Set("Authorization", "Bearer mgt_one")
			go func() { mux.ServeHTTP(w, r); answered <- w }()
			synctest.Wait()
			return answered
		}
		disconnects, disconnect := context.WithCancel(t.Context())
		first := ask(disconnects)
		gone, leave := context.WithCancel(t.Context())
		second, third := ask(gone), ask(t.Context())
		leave()
		<-second
		disconnect() // an operation that has begun goes on
		if late := <-third; late.Code != http.StatusServiceUnavailable || !strings.Contains(late.Body.String(), `"code":"overloaded"`) || late.Header().Get("Retry-After") != "1" {
			t.Errorf("late: %d %s", late.Code, late.Body)
		}
		fourth := ask(t.Context())
		close(release)
		if w := <-first; w.Code != http.StatusNoContent {
			t.Errorf("first: %d %s", w.Code, w.Body)
		}
		if w := <-fourth; w.Code != http.StatusInternalServerError || !strings.Contains(w.Body.String(), `"status":500`) {
			t.Errorf("fourth: %d %s", w.Code, w.Body)
		}
		if done != 2 {
			t.Errorf("%d operations were done", done)
		}
		stop()
		<-ended
	})
}

// TestALongOperationEndsWithTheProcess: it is not held up by its turn, hears of the end as a command hears of a signal, and
// is waited for; another request of a client that has gone is not.
func TestALongOperationEndsWithTheProcess(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSource(published("products", phases.Legacy, 0, 1))
		lifted := false
		e, mux := endpoints(s, server.Handle(server.Endpoint{ID: "move", Method: http.MethodPost, Path: "/move", Within: 10 * time.Minute},
			func(ctx context.Context, _ *server.Call, _ server.None) (server.None, error) {
				<-ctx.Done()
				time.Sleep(7 * time.Second) // it leads back, by a context of its own
				lifted = true
				return server.None{}, ctx.Err()
			}))
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- e.Run(ctx) }()
		synctest.Wait()
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/api/v1/move", http.NoBody)
		r.Header.Set("Authorization", "Bearer mgt_one")
		answered := make(chan struct{})
		go func() { defer close(answered); mux.ServeHTTP(httptest.NewRecorder(), r) }()
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		select {
		case <-answered:
			t.Error("it ended by itself")
		default:
		}
		stop()
		<-ended
		e.Wait()
		if !lifted {
			t.Error("the process did not wait for the end of the move")
		}
		<-answered
	})
}
