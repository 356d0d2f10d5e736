package server

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/logs"
	"github.com/stranglerfig/migrator/internal/oneline"
)

// Alerts serves POST /alerts/{migration} for all migrations of a daemon: webhooks of a Prometheus
// Alertmanager (payload version 4). It calls Fire with the alerts that have a matcher's labels, and
// with whether its Watchdog is among them. It skips alerts that match nothing, and migrator's own.
//
// It answers 200 with the triggers that fired, 401 without the token, 404 for a migration that the
// daemon does not have, 400 to another payload or an alert from the future, and 413 to one that is
// too long; Alertmanager retries none of these. It answers 503 if Fire failed, or the state can't
// be read; Alertmanager retries that.
//
// The token is checked first: a client without it costs no read of the state or of the body, and
// delays no alert.
type Alerts struct {
	Token string // that Alertmanagers must send as a bearer token; empty: every request is refused
	// Matchers returns the matchers of the migration's applied triggers. It is called for
	// each request. known is false for a migration that this daemon does not have.
	Matchers func(ctx context.Context, migration string) (matchers []Matcher, known bool, err error)
	// Fire notes what was received, and acts on it. An Alertmanager repeats an alert, and both members of a
	// cluster send it: Fire must recognize its Key. It is not called concurrently for a migration.
	Fire    func(ctx context.Context, migration string, received Received) (Fired, error)
	MaxBody int64         // bytes; 0: 1 MiB
	Timeout time.Duration // for acting on one webhook; 0: 20 s
	Log     *slog.Logger  // nil: discarded

	turns sync.Map // a channel that holds one value, by migration
}

// Received is what one webhook says.
type Received struct {
	Firing, Resolved []Alert
	Watchdog         bool // fires: alerts of this Alertmanager arrive
	Own              int  // alerts about migrator that match a trigger, which fire none
}

// Fired is what Fire did.
type Fired struct {
	Triggers []string // of the alerts that were new, one for each
	Old      int      // alerts that began before reads last changed sides: they are not about the present route
	Future   int      // alerts that begin more than a day from now: not acted on
	LeftOut  int      // new alerts beyond those that one webhook may bring: Alertmanager sends them again
}

func (a *Alerts) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !a.authorized(r) {
		w.Header().Set("WWW-Authenticate", "Bearer")
		refuse(w, http.StatusUnauthorized, errors.New("bearer token missing or wrong"))
		return
	}
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		refuse(w, http.StatusMethodNotAllowed, errors.New("only POST"))
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), cmp.Or(a.Timeout, 20*time.Second))
	defer cancel()
	name := r.PathValue("migration")
	log := logs.OrDiscard(a.Log).With("migration", oneline.Of(name))
	p, ok := a.read(w, r, log)
	if !ok {
		return
	}
	matchers, known, err := a.Matchers(ctx, name)
	switch {
	case !known:
		refuse(w, http.StatusNotFound, fmt.Errorf("this daemon has no migration %q", oneline.Of(name)))
		return
	case err != nil:
		log.Warn("state unreachable; alert refused", "error", err, hint.Attr(err))
		refuse(w, http.StatusServiceUnavailable, errors.New("the state database can't be read; the daemon's log has the error"))
		return
	}
	received := sorted(p, matchers)
	if received.Own > 0 {
		log.Warn("alerts about migrator ignored: they fire no trigger", "alerts", received.Own,
			"hint", "give the trigger labels that only alerts of the application have")
	}
	fired, err := a.fire(ctx, name, received)
	if fired.Old > 0 {
		log.Warn("alerts ignored: they began before reads last changed sides", "alerts", fired.Old)
	}
	if fired.LeftOut > 0 {
		log.Warn("more new alerts than one webhook may bring; the rest is acted on when Alertmanager repeats it", "alerts_left_out", fired.LeftOut,
			"hint", "group the trigger's alerts: one alert is enough to fire it")
	}
	switch {
	case err != nil:
		log.Error("acting on an alert failed; Alertmanager will retry", "error", err, hint.Attr(err))
		refuse(w, http.StatusServiceUnavailable, errors.New("acting on the alert failed; the daemon's log has the error"))
	case fired.Future > 0:
		log.Error("alerts refused: they begin more than a day from now", "alerts", fired.Future, "hint", "check the clock of Prometheus")
		refuse(w, http.StatusBadRequest, fmt.Errorf("%d alerts begin more than a day from now: check the clock of Prometheus", fired.Future))
	default:
		reply(w, http.StatusOK, map[string]any{"fired": append([]string{}, fired.Triggers...)})
	}
}

// read reads a webhook; where it can't, it answers.
func (a *Alerts) read(w http.ResponseWriter, r *http.Request, log *slog.Logger) (p payload, ok bool) {
	limit := cmp.Or(a.MaxBody, defaultMaxBody)
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	if tooLong := new(http.MaxBytesError); errors.As(err, &tooLong) {
		log.Error("webhook refused: too long", "limit", limit)
		refuse(w, http.StatusRequestEntityTooLarge, fmt.Errorf("longer than %d bytes; set max_alerts of the receiver", limit))
		return p, false
	}
	if err != nil {
		refuse(w, http.StatusBadRequest, errors.New("the body could not be read"))
		return p, false
	}
	p, err = parse(body)
	if err != nil {
		log.Error("webhook refused", "error", oneline.Of(err.Error()))
		refuse(w, http.StatusBadRequest, err)
		return p, false
	}
	if p.Truncated > 0 {
		log.Warn("webhook truncated by Alertmanager", "alerts_left_out", p.Truncated,
			"hint", "raise max_alerts of the receiver, or route the trigger's alerts to a receiver of their own")
	}
	return p, true
}

// fire takes turns: the same alert may arrive twice concurrently.
func (a *Alerts) fire(ctx context.Context, name string, received Received) (Fired, error) {
	if len(received.Firing)+len(received.Resolved) == 0 && !received.Watchdog {
		return Fired{}, nil
	}
	any, _ := a.turns.LoadOrStore(name, make(chan struct{}, 1)) // only names that this daemon has come here
	turn := any.(chan struct{})
	select {
	case turn <- struct{}{}:
		defer func() { <-turn }()
	case <-ctx.Done():
		return Fired{}, fmt.Errorf("earlier alerts are still acted on: %w", ctx.Err())
	}
	return a.Fire(ctx, name, received)
}

func (a *Alerts) authorized(r *http.Request) bool {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	// Hashes are compared: otherwise the comparison's time would reveal the token's length.
	got, want := sha256.Sum256([]byte(token)), sha256.Sum256([]byte(a.Token))
	return subtle.ConstantTimeCompare(got[:], want[:]) == 1 && ok && a.Token != ""
}

// Text is the alert's name and its summary or description, for an operator.
func (a Alert) Text() string {
	text := "alert " + oneline.Of(a.Labels["alertname"])
	for _, name := range []string{"summary", "description"} {
		if s := a.Annotations[name]; s != "" {
			return text + ": " + oneline.Of(s)
		}
	}
	return text
}
