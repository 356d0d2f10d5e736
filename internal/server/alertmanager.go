package server

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/stranglerfig/migrator/internal/logs"
	"github.com/stranglerfig/migrator/internal/oneline"
)

// Alertmanager receives webhooks of a Prometheus Alertmanager (payload version 4) and
// calls Fire for each alert that is firing and has a matcher's labels. It skips resolved
// alerts, alerts that match nothing, and alerts that Fire has acted on already: an
// Alertmanager repeats them, and both members of a cluster send them.
//
// Which alerts were acted on is kept in memory alone: after a restart the repetition of
// an alert is new to this process. So Fire must recognize an alert's Key.
//
// It answers 200 with the triggers that fired, 401 without the token, 400 to another
// payload, and 413 to one that is too long; Alertmanager retries none of these. It answers
// 503 if Fire failed; Alertmanager retries that.
type Alertmanager struct {
	Token    string // that Alertmanager must send as a bearer token; empty: every request is refused
	Matchers []Matcher
	// Fire acts on an alert, once; it is not called concurrently.
	Fire    func(ctx context.Context, a Alert) error
	MaxBody int64        // bytes; 0: 1 MiB
	Log     *slog.Logger // nil: discarded

	mu    sync.Mutex
	seen  map[string]bool
	order []string // the keys of seen, oldest first
}

// Matcher selects the alerts of a trigger: an alert must have all Labels, with these
// values. Without labels it matches nothing.
type Matcher struct {
	Trigger string
	Labels  map[string]string
}

// Alert is a firing alert, with the trigger that it is for.
type Alert struct {
	Trigger     string            `json:"trigger"`
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
	StartsAt    time.Time         `json:"startsAt"`
	Fingerprint string            `json:"fingerprint"` // of the labels
}

// Key identifies one firing of an alert, however often it is sent.
func (a Alert) Key() string {
	return a.Trigger + " " + a.Fingerprint + " " + a.StartsAt.UTC().Format(time.RFC3339Nano)
}

const (
	payloadVersion = "4"
	defaultMaxBody = 1 << 20
	maxRemembered  = 10_000 // alerts
)

// payload is the part of a webhook that is read.
type payload struct {
	Version   string `json:"version"`
	Truncated int    `json:"truncatedAlerts"`
	Alerts    []struct {
		Status string `json:"status"`
		Alert
	} `json:"alerts"`
}

// parse reads a webhook. It ignores other fields.
func parse(body []byte) (payload, error) {
	var p payload
	if err := json.Unmarshal(body, &p); err != nil {
		return payload{}, fmt.Errorf("not an Alertmanager webhook: %w", err)
	}
	if p.Version != payloadVersion {
		return payload{}, fmt.Errorf("the webhook's version is %q: want %q", p.Version, payloadVersion)
	}
	for i := range p.Alerts {
		a := &p.Alerts[i]
		switch {
		case a.Status != "firing" && a.Status != "resolved":
			return payload{}, fmt.Errorf("alert %d is %q, neither firing nor resolved", i+1, a.Status)
		case len(a.Labels) == 0 || a.StartsAt.IsZero():
			return payload{}, fmt.Errorf("alert %d has no labels or no startsAt", i+1)
		}
		a.Trigger = "" // the sender must not choose it
		if a.Fingerprint == "" {
			text, _ := json.Marshal(a.Labels) // in the order of their names
			a.Fingerprint = fmt.Sprintf("%x", sha256.Sum256(text))
		}
	}
	return p, nil
}

// firing pairs each firing alert with the triggers that it is for.
func (h *Alertmanager) firing(p payload) (found []Alert) {
	for _, a := range p.Alerts {
		for _, m := range h.Matchers {
			if a.Status == "firing" && m.matches(a.Labels) {
				fires := a.Alert
				fires.Trigger = m.Trigger
				found = append(found, fires)
			}
		}
	}
	return found
}

func (m Matcher) matches(labels map[string]string) bool {
	for name, value := range m.Labels {
		if got, ok := labels[name]; !ok || got != value {
			return false
		}
	}
	return len(m.Labels) > 0
}

// ServeHTTP implements http.Handler.
func (h *Alertmanager) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		refuse(w, http.StatusMethodNotAllowed, errors.New("only POST"))
		return
	}
	if !h.authorized(r) {
		w.Header().Set("WWW-Authenticate", "Bearer")
		refuse(w, http.StatusUnauthorized, errors.New("bearer token missing or wrong"))
		return
	}
	limit := h.MaxBody
	if limit <= 0 {
		limit = defaultMaxBody
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	if tooLong := new(http.MaxBytesError); errors.As(err, &tooLong) {
		h.log().Error("webhook refused: too long", "limit", limit)
		refuse(w, http.StatusRequestEntityTooLarge, fmt.Errorf("longer than %d bytes; set max_alerts of the receiver", limit))
		return
	}
	if err != nil {
		refuse(w, http.StatusBadRequest, errors.New("the body could not be read"))
		return
	}
	p, err := parse(body)
	if err != nil {
		h.log().Error("webhook refused", "error", err)
		refuse(w, http.StatusBadRequest, err)
		return
	}
	if p.Truncated > 0 {
		h.log().Warn("webhook truncated by Alertmanager", "alerts_left_out", p.Truncated,
			"hint", "raise max_alerts of the receiver, or route the trigger's alerts to a receiver of their own")
	}
	fired, err := h.fire(r.Context(), h.firing(p))
	if err != nil {
		h.log().Error("acting on an alert failed; Alertmanager will retry", "error", err)
		refuse(w, http.StatusServiceUnavailable, errors.New("acting on the alert failed; the daemon's log has the error"))
		return
	}
	reply(w, http.StatusOK, map[string]any{"fired": fired})
}

// fire returns the triggers of the alerts that were new.
func (h *Alertmanager) fire(ctx context.Context, alerts []Alert) ([]string, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	fired := []string{}
	var failures error
	for _, a := range alerts {
		key := a.Key()
		if h.seen[key] {
			continue
		}
		if err := h.Fire(ctx, a); err != nil {
			failures = errors.Join(failures, fmt.Errorf("trigger %s: %w", a.Trigger, err))
			continue
		}
		h.remember(key)
		fired = append(fired, a.Trigger)
	}
	return fired, failures
}

func (h *Alertmanager) remember(key string) {
	if h.seen == nil {
		h.seen = map[string]bool{}
	}
	if len(h.order) == maxRemembered {
		delete(h.seen, h.order[0])
		h.order = h.order[1:]
	}
	h.seen[key] = true
	h.order = append(h.order, key)
}

func (h *Alertmanager) authorized(r *http.Request) bool {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	// Hashes are compared: otherwise the comparison's time would reveal the token's length.
	got, want := sha256.Sum256([]byte(token)), sha256.Sum256([]byte(h.Token))
	return subtle.ConstantTimeCompare(got[:], want[:]) == 1 && ok && h.Token != ""
}

func (h *Alertmanager) log() *slog.Logger {
	return logs.OrDiscard(h.Log)
}

func refuse(w http.ResponseWriter, code int, err error) {
	reply(w, code, map[string]string{"error": oneline.Of(err.Error())})
}

func reply(w http.ResponseWriter, code int, document any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(document) // the caller may have gone
}
