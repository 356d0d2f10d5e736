package notify_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/stranglerfig/migrator/internal/notify"
	"github.com/stranglerfig/migrator/internal/notify/secrets"
)

const (
	hookKey    = "0123456789abcdef0123456789abcdef"
	hookSecret = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
)

func parse(t *testing.T, text string) []secrets.Secret {
	t.Helper()
	all, err := secrets.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func receiver(t *testing.T, f http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(f)
	t.Cleanup(s.Close)
	return s.URL
}

// TestWebhookIsSigned as Standard Webhooks 1.0.0 has it: with each secret of the file, so that a receiver may have either.
func TestWebhookIsSigned(t *testing.T) {
	t.Parallel()
	type request struct {
		header http.Header
		body   string
	}
	got := make(chan request, 2)
	url := receiver(t, func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got <- request{r.Header, string(body)}
	})
	const former = "a former secret, which is no base64"
	hook := &notify.Webhook{URL: url, Secrets: parse(t, hookSecret+"\n"+former+"\n")}
	const body = `{"type":"migrator.rollback"}`
	if retry, err := hook.Send(t.Context(), notify.Message{ID: "products-12", Body: []byte(body)}); err != nil || retry {
		t.Fatalf("retry %v: %v", retry, err)
	}
	r := <-got
	// Computed as a receiver without a library would.
	var want []string
	for _, key := range []string{hookKey, former} {
		mac := hmac.New(sha256.New, []byte(key))
		fmt.Fprintf(mac, "products-12.%s.%s", r.header.Get("Webhook-Timestamp"), r.body)
		want = append(want, "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	}
	if signatures := r.header.Get("Webhook-Signature"); signatures != strings.Join(want, " ") {
		t.Errorf("signed %s, want %s", signatures, want)
	}
	if r.header.Get("Webhook-Id") != "products-12" || r.header.Get("Content-Type") != "application/json" || r.body != body {
		t.Errorf("it sent %v %s", r.header, r.body)
	}
	// And by the reference library, with either secret, and with no other.
	by := func(secret string, raw bool, body string) error {
		hook, err := standardwebhooks.NewWebhook(secret)
		if raw {
			hook, err = standardwebhooks.NewWebhookRaw([]byte(secret))
		}
		if err != nil {
			t.Fatal(err)
		}
		return hook.Verify([]byte(body), r.header)
	}
	if err := by(hookSecret, false, body); err != nil {
		t.Errorf("the new secret: %v", err)
	}
	if err := by(former, true, body); err != nil {
		t.Errorf("the former secret: %v", err)
	}
	if by("another secret of some length", true, body) == nil || by(hookSecret, false, body+" ") == nil {
		t.Error("another secret, or another body, is taken")
	}
}

func TestWebhookRetries(t *testing.T) {
	t.Parallel()
	for status, want := range map[int]bool{
		200: false, 204: false, 301: false, 307: false, 400: false, 401: false, 404: false, 410: false, 422: false,
		408: true, 425: true, 429: true, 500: true, 502: true, 503: true, 504: true,
	} {
		url := receiver(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/followed" {
				t.Errorf("it followed a %d", status)
			}
			w.Header().Set("Location", "/followed")
			w.WriteHeader(status)
		})
		retry, err := (&notify.Webhook{URL: url + "/t0ken", Secrets: []secrets.Secret{secrets.Secret(hookKey)}}).Send(t.Context(), notify.Message{ID: "1"})
		if retry != want || (err == nil) != (status/100 == 2) || err != nil && (!strings.Contains(err.Error(), fmt.Sprint(status)) || strings.Contains(err.Error(), "t0ken")) {
			t.Errorf("%d: retry %v, %v", status, retry, err)
		}
	}
}

func TestWebhookThatCantBeSent(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	slow := receiver(t, func(http.ResponseWriter, *http.Request) { <-release })
	t.Cleanup(func() { close(release) })
	for name, c := range map[string]struct {
		hook  notify.Webhook
		retry bool
		want  string
	}{
		"no server":      {notify.Webhook{URL: "http://127.0.0.1:1/t0ken", Secrets: []secrets.Secret{secrets.Secret(hookKey)}}, true, "refused"},
		"no answer":      {notify.Webhook{URL: slow + "/t0ken", Secrets: []secrets.Secret{secrets.Secret(hookKey)}, Timeout: 50 * time.Millisecond}, true, "deadline"},
		"no URL":         {notify.Webhook{Secrets: []secrets.Secret{secrets.Secret(hookKey)}}, false, "does not begin with http"},
		"no secret":      {notify.Webhook{URL: "http://127.0.0.1:1/t0ken"}, false, "no secret"},
		"a short secret": {notify.Webhook{URL: "http://127.0.0.1:1/t0ken", Secrets: []secrets.Secret{secrets.Secret("t0ken")}}, false, "shorter than 16"},
	} {
		retry, err := c.hook.Send(t.Context(), notify.Message{ID: "1"})
		if retry != c.retry || err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "t0ken") {
			t.Errorf("%s: retry %v, %v", name, retry, err)
		}
	}
}
