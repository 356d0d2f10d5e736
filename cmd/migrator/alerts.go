package main

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"strings"
	"sync"

	"github.com/stranglerfig/migrator/internal/daemon"
	"github.com/stranglerfig/migrator/internal/server"
	"github.com/stranglerfig/migrator/internal/state"
)

const minAlertsToken = 16

// alertsToken is what Alertmanagers must send; "": no alerts are taken.
func (s *settings) alertsToken() (string, error) {
	token, from := s.AlertsToken, "MIGRATOR_ALERTS_TOKEN"
	switch {
	case token != "" && s.AlertsTokenFile != "":
		return "", usagef("both MIGRATOR_ALERTS_TOKEN and an alerts token file are given: want one")
	case s.AlertsTokenFile != "":
		raw, err := os.ReadFile(s.AlertsTokenFile)
		if err != nil {
			return "", usagef("alerts token file: %w", err)
		}
		token, from = strings.TrimSpace(string(raw)), s.AlertsTokenFile
	case token == "":
		return "", nil
	}
	if len(token) < minAlertsToken {
		return "", usagef("the alerts token of %s is shorter than %d characters; try: openssl rand -hex 32", from, minAlertsToken)
	}
	return token, nil
}

// alerts answers POST /alerts/{migration}. What a trigger matches is read from what is
// applied at each request.
type alerts struct {
	c     *cli
	store *state.Store
	kept  map[string]*kept
	token string
	mu    sync.Mutex // one webhook at a time: the same alert may come twice at once
}

func (a *alerts) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	k := a.kept[r.PathValue("migration")]
	if k == nil {
		http.NotFound(w, r)
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	engine := a.c.engine(a.store, k)
	h := server.Alertmanager{Token: a.token, Log: a.c.log.With("migration", k.m.Name), Fire: func(r context.Context, alert server.Alert) error {
		whole, err := json.Marshal(alert)
		if err != nil {
			return err
		}
		return engine.Fire(r, daemon.Alert{Trigger: alert.Trigger, Key: alert.Key(), Detail: alertText(alert), Alert: whole})
	}}
	applied, err := appliedSettings(r.Context(), a.store, k.m.Name)
	if err != nil {
		a.c.log.Warn("an alert can't be taken", "migration", k.m.Name, "error", err)
		http.Error(w, "the state can't be read; the daemon's log says why", http.StatusServiceUnavailable)
		return
	}
	for _, t := range applied.Triggers.Custom {
		if len(t.Alertmanager.Labels) > 0 {
			h.Matchers = append(h.Matchers, server.Matcher{Trigger: t.Name, Labels: t.Alertmanager.Labels})
		}
	}
	h.ServeHTTP(w, r)
}

// alertText is what a person reads of it.
func alertText(a server.Alert) string {
	text := "alert " + a.Labels["alertname"]
	for _, name := range []string{"summary", "description"} {
		if s := a.Annotations[name]; s != "" {
			return text + ": " + s
		}
	}
	return text
}
