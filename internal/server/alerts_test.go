package server_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/stranglerfig/migrator/internal/server"
)

func TestAlertsAreRoutedByMigration(t *testing.T) {
	t.Parallel()
	var fired []string
	alerts := &server.Alerts{
		Token: "0123456789abcdef",
		Matchers: func(_ context.Context, migration string) ([]server.Matcher, bool, error) {
			switch migration {
			case "products":
				return []server.Matcher{{Trigger: "smoke", Labels: map[string]string{"severity": "page"}}}, true, nil
			case "broken":
				return nil, true, errors.New("the state is unreachable")
			}
			return nil, false, nil
		},
		Fire: func(_ context.Context, migration string, r server.Received) (server.Fired, error) {
			for _, a := range r.Firing {
				fired = append(fired, migration+" "+a.Trigger+" "+a.Text())
			}
			return server.Fired{}, nil
		},
	}
	mux := http.NewServeMux()
	mux.Handle("POST /alerts/{migration}", alerts)
	send := func(path, token string) int {
		body := `{"version":"4","alerts":[{"status":"firing","startsAt":"2026-01-02T03:04:05Z",
			"labels":{"alertname":"Burning","severity":"page"},"annotations":{"description":"long","summary":"it burns"}}]}`
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, path, strings.NewReader(body))
		r.Header.Set("Authorization", "Bearer "+token)
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, r)
		return w.Code
	}
	for _, c := range []struct {
		path, token string
		code        int
	}{
		{"/alerts/products", alerts.Token, http.StatusOK},
		{"/alerts/products", "wrong", http.StatusUnauthorized},
		{"/alerts/other", alerts.Token, http.StatusNotFound},
		{"/alerts/other", "", http.StatusUnauthorized},
		{"/alerts/broken", "", http.StatusUnauthorized},
		{"/alerts/broken", alerts.Token, http.StatusServiceUnavailable},
	} {
		if code := send(c.path, c.token); code != c.code {
			t.Errorf("%s: %d, want %d", c.path, code, c.code)
		}
	}
	if len(fired) != 1 || fired[0] != "products smoke alert Burning: it burns" {
		t.Errorf("%q", fired)
	}
}

// TestOwnAlertsFireNothing: an alert about migrator never reaches a trigger, whatever labels both have. The
// Watchdog is heard also where it matches nothing, and is no alert of a trigger where it matches.
func TestOwnAlertsFireNothing(t *testing.T) {
	t.Parallel()
	var got []server.Received
	alerts := &server.Alerts{
		Token: secret,
		Matchers: func(context.Context, string) ([]server.Matcher, bool, error) {
			return []server.Matcher{{Trigger: "pages", Labels: map[string]string{"severity": "page"}}}, true, nil
		},
		Fire: func(_ context.Context, _ string, r server.Received) (server.Fired, error) {
			got = append(got, r)
			return server.Fired{}, nil
		},
	}
	for _, body := range []string{
		webhook(alert("firing", "f1", t1, `"alertname":"TriggerBlind","severity":"page","source":"migrator"`)),
		webhook(alert("resolved", "f1", t1, `"alertname":"TriggerBlind","severity":"page","source":"migrator"`), alert("firing", "f2", t1, `"alertname":"Watchdog","severity":"none"`)),
		webhook(alert("firing", "f2", t1, `"alertname":"Watchdog","severity":"page","source":"migrator"`)),
		webhook(alert("resolved", "f2", t1, `"alertname":"Watchdog","severity":"page"`)),
		webhook(alert("firing", "f3", t1, `"alertname":"Burns","severity":"page"`), alert("resolved", "f4", t1, `"alertname":"Burns","severity":"page"`)),
	} {
		if code, answer := post(route(alerts), secret, body); code != http.StatusOK {
			t.Errorf("%d %s", code, answer)
		}
	}
	want := []string{"watchdog true, 0 firing, 0 resolved", "watchdog true, 0 firing, 0 resolved", "watchdog false, 1 firing, 1 resolved"}
	var is []string
	for _, r := range got {
		is = append(is, fmt.Sprintf("watchdog %t, %d firing, %d resolved", r.Watchdog, len(r.Firing), len(r.Resolved)))
	}
	if !slices.Equal(is, want) {
		t.Errorf("%q, want %q", is, want)
	}
}

// TestAnAlertFromTheFutureIsRefused: Alertmanager's log has the refusal. One that was ignored, or left for later, is not.
func TestAnAlertFromTheFutureIsRefused(t *testing.T) {
	t.Parallel()
	var fired server.Fired
	alerts := &server.Alerts{
		Token: secret,
		Matchers: func(context.Context, string) ([]server.Matcher, bool, error) {
			return []server.Matcher{{Trigger: "pages", Labels: map[string]string{"severity": "page"}}}, true, nil
		},
		Fire: func(context.Context, string, server.Received) (server.Fired, error) { return fired, nil },
	}
	for _, c := range []struct {
		fired server.Fired
		code  int
	}{{server.Fired{Future: 1}, http.StatusBadRequest}, {server.Fired{Old: 1, LeftOut: 1}, http.StatusOK}} {
		fired = c.fired
		if code, answer := post(route(alerts), secret, webhook(alert("firing", "f1", t1, `"severity":"page"`))); code != c.code {
			t.Errorf("%+v: %d %s", c.fired, code, answer)
		}
	}
}
