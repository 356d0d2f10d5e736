// Command server serves sessions over HTTP while they move. It reads sessions.yaml, and the
// state database's URL from MIGRATOR_STATE_URL.
package main

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/stranglerfig/migrator/dual/kit"
	"github.com/stranglerfig/migrator/examples/sessions"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/store/postgres"
	"github.com/stranglerfig/migrator/store/redis"
)

func main() {
	if err := run(); err != nil {
		slog.Error("the server ended", "error", err)
		os.Exit(1)
	}
}

func run() error {
	// A deployment sends SIGTERM, and waits longer than the last requests and the leave take.
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	m, err := migration.Load("sessions.yaml", postgres.Kind(), redis.Kind())
	if err != nil {
		return err
	}
	db, err := sql.Open("postgres", m.Legacy.URL)
	if err != nil {
		return err
	}
	defer db.Close()
	store, err := sessions.Open(ctx, db, m, kit.Options{StateURL: os.Getenv("MIGRATOR_STATE_URL"), Logger: slog.Default()})
	if err != nil {
		return err
	}
	return store.Serve(ctx, func(ctx context.Context) error {
		server := &http.Server{Addr: "127.0.0.1:8080", Handler: handler(store), ReadHeaderTimeout: 5 * time.Second}
		ended := make(chan error, 1)
		go func() { ended <- server.ListenAndServe() }()
		select {
		case err := <-ended:
			return err // it never began
		case <-ctx.Done():
		}
		// Returns after the last request has been answered; only then the instance leaves.
		return server.Shutdown(context.WithoutCancel(ctx))
	})
}

func handler(store *sessions.Store) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /sessions/{token}", func(w http.ResponseWriter, r *http.Request) {
		_, found, err := store.Get(r.Context(), r.PathValue("token"))
		switch {
		case err != nil:
			http.Error(w, "try again", http.StatusServiceUnavailable)
		case !found:
			http.NotFound(w, r)
		}
	})
	mux.HandleFunc("POST /sessions/{token}/extend", func(w http.ResponseWriter, r *http.Request) {
		err := store.Extend(r.Context(), r.PathValue("token"), time.Hour)
		switch {
		case errors.Is(err, sessions.ErrNoSession):
			http.NotFound(w, r)
		case err != nil:
			http.Error(w, "try again", http.StatusServiceUnavailable)
		}
	})
	return mux
}
