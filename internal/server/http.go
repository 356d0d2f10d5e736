// Package server serves health checks, status and metrics over HTTP, and receives alerts.
package server

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/netutil"
	"golang.org/x/sync/errgroup"

	"github.com/stranglerfig/migrator/internal/hint"
)

// ErrNotLoopback refuses an address that other machines could reach.
var ErrNotLoopback = errors.New("other machines could reach it, and read the migrations' status without a password")

// CheckLoopback refuses an address host:port whose host is not this machine's own:
// 127.0.0.1, [::1] or localhost.
func CheckLoopback(address string) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return hint.Errorf(hint.Hint{Do: hint.Listen}, "listen address %q: %w", address, err)
	}
	ip, err := netip.ParseAddr(host)
	if host == "localhost" || err == nil && ip.IsLoopback() {
		return nil
	}
	return hint.Errorf(hint.Hint{Do: hint.Listen}, "listen address %q is not on loopback: %w", address, ErrNotLoopback)
}

// forHosts refuses requests whose Host is none of the names, nor, on loopback, this machine's: a page that a
// browser shows could otherwise reach the endpoints by a name of its own that it lets resolve to this address (DNS
// rebinding).
func forHosts(next http.Handler, names []string, loopback bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := r.Host
		if name, _, err := net.SplitHostPort(host); err == nil {
			host = name
		}
		host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
		ip, err := netip.ParseAddr(host)
		switch {
		case r.Host == "" && r.ProtoMajor == 1 && r.ProtoMinor == 0: // browsers send one
		case slices.ContainsFunc(names, func(name string) bool { return strings.EqualFold(host, name) }):
		case loopback && strings.EqualFold(host, "localhost"):
		case loopback && err == nil && ip.Unmap().IsLoopback():
		default:
			refuse(w, http.StatusMisdirectedRequest, errors.New("this address answers requests for localhost, 127.0.0.1 or [::1], and for the hosts of its settings, alone: check the Host header; a proxy before it must set it"))
			return
		}
		next.ServeHTTP(w, r)
	})
}

// API answers GET /healthz, /status and /metrics, which change nothing, and takes
// alerts by POST /alerts/{migration}.
type API struct {
	// Ping returns an error if the state database is unreachable.
	Ping func(ctx context.Context) error
	// Role is "leader", "standby" or "worker".
	Role func() string
	// Unled returns the migrations that no process has led for a while; nil: there are none.
	Unled func() []string
	// Status is the document of migrator status -o json; nil: there is no such path.
	Status  func(ctx context.Context) (any, error)
	Metrics http.Handler
	Alerts  http.Handler // checks a token itself; nil: there is no such path
	Flags   *Flags       // likewise
	// Endpoints are those of the HTTP API; nil: there is no such path. They check a token too.
	Endpoints *Endpoints
	Also      []Registrar   // what other packages serve
	Timeout   time.Duration // for reading the state in one request; 0: 5 s
	Log       *slog.Logger  // nil: discarded
}

// Registrar adds paths.
type Registrar interface{ Register(mux *http.ServeMux) }

// Handler routes the requests.
func (a *API) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", a.health)
	if a.Status != nil {
		mux.HandleFunc("GET /status", a.status)
	}
	mux.Handle("GET /metrics", a.Metrics)
	if a.Alerts != nil {
		mux.Handle("POST /alerts/{migration}", a.Alerts)
	}
	if a.Flags != nil {
		a.Flags.Register(mux)
	}
	for _, other := range a.Also {
		other.Register(mux)
	}
	if a.Endpoints != nil {
		a.Endpoints.Register(mux)
	}
	return mux
}

func (a *API) limited(r *http.Request) (context.Context, context.CancelFunc) {
	return context.WithTimeout(r.Context(), cmp.Or(a.Timeout, 5*time.Second))
}

func (a *API) health(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := a.limited(r)
	defer cancel()
	if err := a.Ping(ctx); err != nil {
		a.unavailable(w, r, err)
		return
	}
	if a.Unled != nil {
		if unled := a.Unled(); len(unled) > 0 {
			a.answer(w, http.StatusServiceUnavailable, map[string]any{"status": "nothing leads", "role": a.Role(), "unled": unled})
			return
		}
	}
	a.answer(w, http.StatusOK, map[string]string{"status": "ok", "role": a.Role()})
}

func (a *API) status(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := a.limited(r)
	defer cancel()
	document, err := a.Status(ctx)
	if err != nil {
		a.unavailable(w, r, err)
		return
	}
	a.answer(w, http.StatusOK, document)
}

// unavailable keeps the database's error from the caller: it names hosts and roles.
func (a *API) unavailable(w http.ResponseWriter, r *http.Request, err error) {
	a.log().Warn("state unreachable; request failed", "path", r.URL.Path, "error", err, hint.Attr(err))
	a.answer(w, http.StatusServiceUnavailable, map[string]string{"error": "the state database can't be read; this process's log has the error"})
}

func (a *API) answer(w http.ResponseWriter, code int, document any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	if err := e.Encode(document); err != nil {
		a.log().Debug("caller disconnected", "error", err)
	}
}

func (a *API) log() *slog.Logger {
	if a.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return a.Log
}

// maxConnections bounds what clients of a daemon hold open at once, event streams beside it.
const maxConnections = 256

// MostBody is the greatest body of any endpoint, in bytes; most have lower limits of their own.
const MostBody = 8 << 20

// Options are what Serve may be given.
type Options struct {
	Hosts []string    // names by which requests may come; none: on loopback this machine's, elsewhere any
	TLS   *tls.Config // nil: plain HTTP
	// Instances are how many more clients than monitoring's may hold a connection: those of the HTTP API.
	Instances int
}

// Serve serves on the listener until ctx ends, waits up to 3 s for requests in flight,
// and returns nil. It closes the listener. On loopback it answers requests for this machine alone, unless Hosts
// has other names. Headers, times, bodies and connections are bounded.
func Serve(ctx context.Context, listener net.Listener, handler http.Handler, o Options) error {
	handler = http.MaxBytesHandler(handler, MostBody+1)
	address, ok := listener.Addr().(*net.TCPAddr)
	if loopback := ok && address.IP.IsLoopback(); loopback || len(o.Hosts) > 0 {
		handler = forHosts(handler, o.Hosts, loopback)
	}
	listener = netutil.LimitListener(listener, maxConnections+mostStreams+o.Instances)
	s := &http.Server{
		ErrorLog:          slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug), // a scanner's handshakes are no news
		TLSConfig:         o.TLS,
		Handler:           handler,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
	}
	g, serving := errgroup.WithContext(ctx)
	g.Go(func() error {
		serve := s.Serve
		if o.TLS != nil {
			serve = func(l net.Listener) error { return s.ServeTLS(l, "", "") }
		}
		if err := serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	g.Go(func() error {
		<-serving.Done()
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
		defer cancel()
		if s.Shutdown(closing) != nil {
			_ = s.Close()
		}
		return nil
	})
	return g.Wait()
}
