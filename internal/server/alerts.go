package server

import (
	"context"
	"log/slog"
	"net/http"
	"sync"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/logs"
)

// Alerts serves POST /alerts/{migration} for all migrations of a daemon.
type Alerts struct {
	Token string // that Alertmanagers must send
	// Matchers returns the matchers of the migration's applied triggers. It is called for
	// each request. known is false for a migration that this daemon does not have.
	Matchers func(ctx context.Context, migration string) (matchers []Matcher, known bool, err error)
	// Fire acts on an alert. It is not called concurrently.
	Fire func(ctx context.Context, migration string, a Alert) error
	Log  *slog.Logger // nil: discarded

	mu sync.Mutex // one webhook at a time: the same alert may arrive twice concurrently
}

func (a *Alerts) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("migration")
	a.mu.Lock()
	defer a.mu.Unlock()
	log := logs.OrDiscard(a.Log).With("migration", name)
	matchers, known, err := a.Matchers(r.Context(), name)
	switch {
	case !known:
		http.NotFound(w, r)
		return
	case err != nil:
		log.Warn("state unreachable; alert refused", "error", err, hint.Attr(err))
		http.Error(w, "the state database can't be read; the daemon's log has the error", http.StatusServiceUnavailable)
		return
	}
	h := Alertmanager{Token: a.Token, Log: log, Matchers: matchers, Fire: func(ctx context.Context, alert Alert) error {
		return a.Fire(ctx, name, alert)
	}}
	h.ServeHTTP(w, r)
}

// Text is the alert's name and its summary or description, for an operator.
func (a Alert) Text() string {
	text := "alert " + a.Labels["alertname"]
	for _, name := range []string{"summary", "description"} {
		if s := a.Annotations[name]; s != "" {
			return text + ": " + s
		}
	}
	return text
}
