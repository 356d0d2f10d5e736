package server_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/internal/server"
)

const secret = "a-long-token"

// handler acts on each alert once, as the daemon does; a failure is not remembered.
func handler(fire func(server.Alert) error) http.Handler {
	alerts := &server.Alerts{
		Token: secret, MaxBody: 100_000,
		Matchers: func(context.Context, string) ([]server.Matcher, bool, error) {
			return []server.Matcher{
				{Trigger: "checkout", Labels: map[string]string{"migration": "products", "team": "shop"}},
				{Trigger: "everything", Labels: nil},
				{Trigger: "pages", Labels: map[string]string{"migration": "products", "severity": "page"}},
			}, true, nil
		},
	}
	seen := map[string]bool{}
	alerts.Fire = func(_ context.Context, _ string, r server.Received) (f server.Fired, err error) {
		for _, a := range r.Firing {
			if seen[a.Key()] {
				continue
			}
			if err := fire(a); err != nil {
				return f, err
			}
			seen[a.Key()] = true
			f.Triggers = append(f.Triggers, a.Trigger)
		}
		return f, nil
	}
	return route(alerts)
}

func route(alerts http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/alerts/{migration}", alerts)
	return mux
}

func post(h http.Handler, token, body string) (int, string) {
	return postTo(h, "products", token, body)
}

func postTo(h http.Handler, name, token, body string) (int, string) {
	r := httptest.NewRequest(http.MethodPost, "/alerts/"+name, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer "+token)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Code, strings.TrimSpace(w.Body.String())
}

func alert(status, fingerprint, startsAt, labels string) string {
	return fmt.Sprintf(`{"status":%q,"labels":{%s},"annotations":{"summary":"s"},"startsAt":%q,"endsAt":"0001-01-01T00:00:00Z","generatorURL":"http://p/graph","fingerprint":%q}`,
		status, labels, startsAt, fingerprint)
}

func webhook(alerts ...string) string {
	return `{"version":"4","groupKey":"{}:{}","truncatedAlerts":0,"status":"firing","receiver":"migrator","groupLabels":{},"commonLabels":{},` +
		`"commonAnnotations":{},"externalURL":"http://a","alerts":[` + strings.Join(alerts, ",") + `]}`
}

const (
	t1     = "2026-03-01T10:00:00Z"
	t2     = "2026-03-01T11:00:00Z"
	shop   = `"alertname":"Slow","migration":"products","team":"shop"`
	both   = `"alertname":"Slow","migration":"products","team":"shop","severity":"page"`
	others = `"alertname":"Slow","migration":"sessions","team":"shop","severity":"page"`
)

func TestAlertmanagerWebhooks(t *testing.T) {
	t.Parallel()
	var fired []server.Alert
	var failure error
	h := handler(func(a server.Alert) error {
		if failure == nil {
			fired = append(fired, a)
		}
		return failure
	})
	for _, c := range []struct {
		name   string
		body   string
		code   int
		answer string
	}{
		{"fires", webhook(alert("firing", "f1", t1, shop)), 200, `{"fired":["checkout"]}`},
		{"sent again", webhook(alert("firing", "f1", t1, shop)), 200, `{"fired":[]}`},
		{"the same moment elsewhere", webhook(alert("firing", "f1", "2026-03-01T11:00:00+01:00", shop)), 200, `{"fired":[]}`},
		{"resolved", webhook(alert("resolved", "f1", t1, shop)), 200, `{"fired":[]}`},
		{"resolved, never seen", webhook(alert("resolved", "f9", t1, both)), 200, `{"fired":[]}`},
		{"fires again", webhook(alert("firing", "f1", t2, shop)), 200, `{"fired":["checkout"]}`},
		{"of another migration", webhook(alert("firing", "f2", t1, others)), 200, `{"fired":[]}`},
		{"for two triggers", webhook(alert("firing", "f3", t1, both)), 200, `{"fired":["checkout","pages"]}`},
		{"mixed", webhook(alert("resolved", "f4", t1, shop), alert("firing", "f5", t1, others), alert("firing", "f6", t1, shop)), 200, `{"fired":["checkout"]}`},
		{"without a fingerprint", webhook(alert("firing", "", t1, shop), alert("firing", "", t1, shop)), 200, `{"fired":["checkout"]}`},
		{"names its trigger", webhook(strings.Replace(alert("firing", "f7", t1, others), "{", `{"trigger":"pages",`, 1)), 200, `{"fired":[]}`},
		{"no alerts", webhook(), 200, `{"fired":[]}`},
		{"another version", strings.Replace(webhook(), `"4"`, `"5"`, 1), 400, `version is \"5\"`},
		{"no version", `{"alerts":[]}`, 400, `version is \"\"`},
		{"not JSON", `hello`, 400, "not an Alertmanager webhook"},
		{"a second document", webhook() + `{}`, 400, "not an Alertmanager webhook"},
		{"another status", webhook(alert("pending", "f1", t1, shop)), 400, "neither firing nor resolved"},
		{"no labels", webhook(alert("firing", "f1", t1, "")), 400, "no labels"},
		{"too long", webhook(alert("firing", "f8", t1, shop+`,"x":"`+strings.Repeat("x", 100_000)+`"`)), 413, "longer than 100000 bytes"},
	} {
		if code, answer := post(h, secret, c.body); code != c.code || !strings.Contains(answer, c.answer) {
			t.Errorf("%s: %d %s, want %d %s", c.name, code, answer, c.code, c.answer)
		}
	}
	if len(fired) != 6 || fired[0].Trigger != "checkout" || fired[0].Labels["alertname"] != "Slow" || fired[0].Annotations["summary"] != "s" ||
		!fired[1].StartsAt.Equal(time.Date(2026, 3, 1, 11, 0, 0, 0, time.UTC)) || fired[0].Key() == fired[1].Key() {
		t.Errorf("fired: %+v", fired)
	}

	// An alert whose Fire failed is sent again, and only the log has the error.
	failure = errors.New("connect to 10.1.2.3: refused")
	if code, answer := post(h, secret, webhook(alert("firing", "fa", t1, shop))); code != 503 || strings.Contains(answer, "10.1.2.3") {
		t.Errorf("a failure: %d %s", code, answer)
	}
	failure = nil
	if code, answer := post(h, secret, webhook(alert("firing", "fa", t1, shop))); code != 200 || answer != `{"fired":["checkout"]}` {
		t.Errorf("after a failure: %d %s", code, answer)
	}
}

func TestAlertmanagerRequiresItsToken(t *testing.T) {
	t.Parallel()
	h := handler(func(server.Alert) error { t.Error("it fired"); return nil })
	for _, token := range []string{"", "a-long-toke", "a-long-token2", "Bearer a-long-token"} {
		if code, _ := post(h, token, webhook(alert("firing", "f", t1, both))); code != 401 {
			t.Errorf("token %q: %d", token, code)
		}
	}
	if code, _ := post(route(&server.Alerts{}), "", webhook()); code != 401 {
		t.Errorf("without a token of its own it answers %d", code)
	}
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodGet, "/alerts/products", http.NoBody)
	r.Header.Set("Authorization", "Bearer "+secret)
	h.ServeHTTP(w, r)
	if w.Code != http.StatusMethodNotAllowed {
		t.Errorf("GET: %d", w.Code)
	}
}

// Two Alertmanagers of a cluster send the same alert at once.
func TestAlertmanagerFiresOncePerAlert(t *testing.T) {
	t.Parallel()
	n := 0 // Fire is not called concurrently
	h := handler(func(server.Alert) error { n++; return nil })
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() { post(h, secret, webhook(alert("firing", "f1", t1, shop))) })
	}
	wg.Wait()
	if n != 1 {
		t.Errorf("it fired %d times", n)
	}
}

// FuzzAlertmanager: no body makes the handler panic, and only firing alerts fire.
func FuzzAlertmanager(f *testing.F) {
	f.Add(webhook(alert("firing", "f1", t1, shop)))
	f.Add(webhook(alert("resolved", "f1", t1, both)))
	f.Add(`{"version":"4","alerts":[{"status":"firing","labels":null}]}`)
	f.Add(`{"version":4}`)
	f.Fuzz(func(t *testing.T, body string) {
		fired := 0
		code, answer := post(handler(func(a server.Alert) error {
			fired++
			if a.Labels["migration"] != "products" || a.StartsAt.IsZero() || a.Fingerprint == "" || !strings.Contains(body, "firing") {
				t.Errorf("it fired for %+v", a)
			}
			return nil
		}), secret, body)
		if code != 200 && code != 400 && code != 413 || code != 200 && fired > 0 || !json.Valid([]byte(answer)) {
			t.Errorf("%d %s, fired %d times", code, answer, fired)
		}
	})
}

// An Alertmanager 0.25 sent these for one alert: firing, its repetition, and resolved.
func TestAlertmanagerAcceptsRecordedWebhooks(t *testing.T) {
	t.Parallel()
	var fired []server.Alert
	h := handler(func(a server.Alert) error { fired = append(fired, a); return nil })
	for i, want := range []string{`{"fired":["checkout"]}`, `{"fired":[]}`, `{"fired":[]}`} {
		body, err := os.ReadFile(fmt.Sprintf("testdata/alertmanager-0.25-%d.json", i+1))
		if err != nil {
			t.Fatal(err)
		}
		if code, got := post(h, secret, string(body)); code != 200 || got != want {
			t.Errorf("webhook %d: %d %s", i+1, code, got)
		}
	}
	if len(fired) != 1 || fired[0].Fingerprint != "be1ddbfe9fea7e08" {
		t.Errorf("fired: %+v", fired)
	}
}
