package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/dual/dualtest"
	"github.com/stranglerfig/migrator/examples/integrations/internal/labtest"
	"github.com/stranglerfig/migrator/examples/integrations/tables"
	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
)

func TestMain(m *testing.M) { testenv.Main(m) }

func open(t *testing.T) (*dualtest.Lab, *Server, *pgxpool.Pool) {
	t.Helper()
	lab, m := labtest.Open(t, "orders", tables.Schema+`INSERT INTO orders VALUES (1, 'paid'), (2, 'paid')`)
	db, err := pgxpool.New(t.Context(), m.Legacy.URL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	orders, err := tables.Open(t.Context(), db, m, lab.Options())
	if err != nil {
		t.Fatal(err)
	}
	return lab, New(orders), db
}

func start(t *testing.T, s *Server) (url string, stop func() error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, l) }()
	return "http://" + l.Addr().String(), func() error {
		cancel()
		return <-served
	}
}

func call(t *testing.T, method, url, key string) (*http.Response, map[string]any) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Idempotency-Key", key)
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var body map[string]any
	if err := json.NewDecoder(response.Body).Decode(&body); err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	return response, body
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	lab, s, _ := open(t)
	url, stop := start(t, s)
	for _, c := range []struct {
		phase phases.Phase
		key   string
		want  int
	}{
		{phases.Legacy, "a", http.StatusNoContent},
		{phases.Legacy, "a", http.StatusNoContent}, // repeated
		{phases.Grace, "a", http.StatusNoContent},
		{phases.Grace, "b", http.StatusConflict},
		{phases.Grace, "", http.StatusBadRequest},
		{phases.Fenced, "a", http.StatusServiceUnavailable},
		{phases.Complete, "a", http.StatusNoContent},
		{phases.Complete, "b", http.StatusConflict},
	} {
		if err := lab.Fleet.Move(t.Context(), c.phase, phases.All); err != nil {
			t.Fatal(err)
		}
		response, body := call(t, http.MethodPost, url+"/orders/1/ship", c.key)
		if response.StatusCode != c.want || (response.Header.Get("Retry-After") != "") != (c.want == http.StatusServiceUnavailable) {
			t.Errorf("%s, %q: %d %v %v, want %d", c.phase, c.key, response.StatusCode, response.Header, body, c.want)
		}
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

func TestProblems(t *testing.T) {
	t.Parallel()
	key := []record.Key{"1"}
	cause := errors.New("refused")
	for _, c := range []struct {
		err     error
		status  int
		written string
	}{
		{&dual.TargetError{Keys: key, Legacy: true, Cause: cause}, http.StatusAccepted, "yes"},
		{&dual.TargetError{Keys: key, Unknown: true, Cause: cause}, http.StatusInternalServerError, "unknown"},
		{&dual.TargetError{Keys: key, Done: key, Cause: cause}, http.StatusInternalServerError, "unknown"},
		{&dual.TargetError{Keys: key, Cause: context.DeadlineExceeded}, http.StatusServiceUnavailable, "no"},
		{&dual.WaitError{}, http.StatusServiceUnavailable, "no"},
		{dual.ErrLeft, http.StatusServiceUnavailable, "no"},
		{io.ErrUnexpectedEOF, http.StatusInternalServerError, "unknown"},
		{cause, http.StatusInternalServerError, "no"},
	} {
		if status, body := problem(fmt.Errorf("ship: %w", c.err)); status != c.status || body.Written != c.written {
			t.Errorf("%v: %d %+v, want %d %s", c.err, status, body, c.status, c.written)
		}
	}
}

// TestTheLastRequestIsAnswered: the server stops while a request waits for a row's lock. The
// request succeeds, and only then the instance leaves.
func TestTheLastRequestIsAnswered(t *testing.T) {
	t.Parallel()
	lab, s, db := open(t)
	url, stop := start(t, s)
	if err := lab.Fleet.Move(t.Context(), phases.Grace, phases.All); err != nil {
		t.Fatal(err)
	}
	if response, body := call(t, http.MethodGet, url+"/readyz", ""); response.StatusCode != http.StatusOK || body["route"] == "" || body["lapsed"] != false {
		t.Errorf("not ready: %d %v", response.StatusCode, body)
	}
	tx, err := db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `SELECT FROM orders FOR UPDATE`); err != nil {
		t.Fatal(err)
	}
	answered := make(chan int, 1)
	go func() {
		response, _ := call(t, http.MethodPost, url+"/orders/2/ship", "a")
		answered <- response.StatusCode
	}()
	await(t, func() (waits bool) {
		if err := db.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')`).Scan(&waits); err != nil {
			t.Fatal(err)
		}
		return waits
	})
	stopped := make(chan error, 1)
	go func() { stopped <- stop() }()
	await(t, s.draining.Load)
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if status := <-answered; status != http.StatusNoContent {
		t.Errorf("the request in flight: %d", status)
	}
	if err := <-stopped; err != nil {
		t.Errorf("stop: %v", err)
	}
	if err := s.orders.Ship(t.Context(), 1, "b"); !errors.Is(err, dual.ErrLeft) {
		t.Errorf("after the end: %v", err)
	}
}

func await(t *testing.T, holds func() bool) {
	t.Helper()
	for tick := time.NewTicker(2 * time.Millisecond); !holds(); {
		select {
		case <-tick.C:
		case <-t.Context().Done():
			t.Fatal("the test ended first")
		}
	}
}
