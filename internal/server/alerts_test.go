package server_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
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
		Fire: func(_ context.Context, migration string, all []server.Alert) (server.Fired, error) {
			for _, a := range all {
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
