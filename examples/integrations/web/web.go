// Package web serves orders over HTTP while they move.
package web

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/examples/integrations/tables"
	"github.com/stranglerfig/migrator/store"
)

// docs: problem

// Problem is the body of an unsuccessful answer.
type Problem struct {
	Error   string `json:"error"`
	Written string `json:"written,omitempty"` // no, yes, or unknown: read before you repeat
}

// problem maps the error of a write. 503 means that nothing was written: clients and proxies
// may repeat the request.
func problem(err error) (int, Problem) {
	var target *dual.TargetError
	var waited *dual.WaitError
	switch {
	case errors.As(err, &target) && target.Legacy:
		return http.StatusAccepted, Problem{"saved; it may take a moment until every reader has it", "yes"}
	case errors.As(err, &target) && (target.Unknown || len(target.Done) > 0):
		return http.StatusInternalServerError, Problem{"the outcome is unknown", "unknown"}
	case errors.As(err, &target), errors.As(err, &waited), errors.Is(err, dual.ErrLeft):
		return http.StatusServiceUnavailable, Problem{"nothing was written, try again", "no"}
	case errors.Is(err, tables.ErrNotPaid):
		return http.StatusConflict, Problem{err.Error(), "no"}
	case store.IsUncertain(err):
		return http.StatusInternalServerError, Problem{"the outcome is unknown", "unknown"}
	default:
		return http.StatusInternalServerError, Problem{"internal error", "no"}
	}
}

// handle is a handler whose error becomes an answer.
type handle func(http.ResponseWriter, *http.Request) error

// ServeHTTP implements http.Handler.
func (h handle) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	err := h(w, r)
	if err == nil {
		return
	}
	status, body := problem(err)
	if status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1") // seconds: authority moves in less
	}
	answer(w, status, body)
}

// docs: end

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // an error means that the client has disconnected
}

// Server is the shop's API.
type Server struct {
	orders   *tables.Orders
	draining atomic.Bool
}

// New makes the API.
func New(orders *tables.Orders) *Server { return &Server{orders: orders} }

// Handler routes requests.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("POST /orders/{id}/ship", handle(s.ship))
	mux.HandleFunc("GET /readyz", s.ready)
	return mux
}

// docs: ready

// ready is for the load balancer. A lapsed lease is no reason to leave it: up to grace the
// instance then reads legacy and writes both stores. An outage of the state database lapses
// all instances at once.
func (s *Server) ready(w http.ResponseWriter, _ *http.Request) {
	status, stats := http.StatusOK, s.orders.Instance.Stats()
	if s.draining.Load() {
		status = http.StatusServiceUnavailable
	}
	answer(w, status, map[string]any{
		"route": s.orders.Instance.Route().String(), "lapsed": stats.Lapsed, "pending": stats.Pending, "failed": stats.Failed,
	})
}

// docs: end

// docs: serve

// Drain is how long requests in flight may take when the server stops. Let the supervisor wait
// longer than this and dual's LeaveWithin together.
const Drain = 10 * time.Second

// Serve answers requests until ctx ends. The order of the end: not ready, no new requests, the
// last request's answer, and only then the instance leaves the migration.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	return s.orders.Serve(ctx, func(ctx context.Context) error {
		server := &http.Server{Handler: s.Handler(), ReadHeaderTimeout: 10 * time.Second}
		served := make(chan error, 1)
		go func() { served <- server.Serve(l) }()
		select {
		case err := <-served:
			return err
		case <-ctx.Done(): // a signal, or the instance has ended
		}
		s.draining.Store(true)
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), Drain)
		defer cancel()
		if err := server.Shutdown(stop); err != nil {
			return errors.Join(err, server.Close()) // what still runs gets ErrLeft
		}
		return nil
	})
}

// docs: end

// docs: idempotency

// ship takes the event's name from the client: a request that is repeated, by the client or by
// a proxy, is the same event and takes effect once, in both forms of the write.
func (s *Server) ship(w http.ResponseWriter, r *http.Request) error {
	var id int64
	event := r.Header.Get("Idempotency-Key")
	if err := json.Unmarshal([]byte(r.PathValue("id")), &id); err != nil || event == "" {
		answer(w, http.StatusBadRequest, Problem{"the order's number and the header Idempotency-Key are required", "no"})
		return nil
	}
	if err := s.orders.Ship(r.Context(), id, event); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// docs: end
