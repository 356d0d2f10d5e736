package notify_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/internal/notify"
)

var hookSecret = []byte("0123456789abcdef0123456789abcdef")

func receiver(t *testing.T, f http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(f)
	t.Cleanup(s.Close)
	return s.URL
}

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
	hook := &notify.Webhook{URL: url, Secret: hookSecret}
	if retry, err := hook.Send(t.Context(), notify.Message{ID: "products-12", Body: []byte(`{"event":"rolled-back"}`)}); err != nil || retry {
		t.Fatalf("retry %v: %v", retry, err)
	}
	r := <-got
	// Computed as a receiver in any language would.
	mac := hmac.New(sha256.New, hookSecret)
	fmt.Fprintf(mac, "%s.%s", r.header.Get("Migrator-Timestamp"), r.body)
	if want := fmt.Sprintf("v1=%x", mac.Sum(nil)); r.header.Get("Migrator-Signature") != want {
		t.Errorf("signature %s, want %s", r.header.Get("Migrator-Signature"), want)
	}
	if r.header.Get("Idempotency-Key") != "products-12" || r.header.Get("Content-Type") != "application/json" || r.body != `{"event":"rolled-back"}` {
		t.Errorf("it sent %v %s", r.header, r.body)
	}
	if err := notify.Verify(hookSecret, r.header, []byte(r.body), time.Now(), time.Minute); err != nil {
		t.Error(err)
	}
}

// The signature is one that `openssl dgst -sha256 -hmac` printed.
func TestVerify(t *testing.T) {
	t.Parallel()
	body, sent := `{"event":"rolled-back"}`, time.Unix(1767225600, 0)
	const signature = "v1=4ffd549198e0516be840289f1bd140b17fd02bc98215f862cc394dd8afaf6c03"
	for name, c := range map[string]struct {
		timestamp, signature, body string
		secret                     []byte
		now                        time.Time
		want                       string
	}{
		"right":           {"1767225600", signature, body, hookSecret, sent.Add(30 * time.Second), ""},
		"another body":    {"1767225600", signature, body + " ", hookSecret, sent, "does not match"},
		"another time":    {"1767225601", signature, body, hookSecret, sent, "does not match"},
		"another secret":  {"1767225600", signature, body, []byte("another-secret-of-32-bytes-length"), sent, "does not match"},
		"no secret":       {"1767225600", signature, body, nil, sent, "does not match"},
		"no signature":    {"1767225600", "", body, hookSecret, sent, "does not match"},
		"another version": {"1767225600", "v2" + signature[2:], body, hookSecret, sent, "does not match"},
		"no time":         {"", signature, body, hookSecret, sent, "not a number"},
		"sent again":      {"1767225600", signature, body, hookSecret, sent.Add(6 * time.Minute), "6m0s ago"},
		"of the future":   {"1767225600", signature, body, hookSecret, sent.Add(-6 * time.Minute), "ago"},
	} {
		h := http.Header{"Migrator-Timestamp": {c.timestamp}, "Migrator-Signature": {c.signature}}
		err := notify.Verify(c.secret, h, []byte(c.body), c.now, 5*time.Minute)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
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
		retry, err := (&notify.Webhook{URL: url + "/t0ken", Secret: hookSecret}).Send(t.Context(), notify.Message{ID: "1"})
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
		"no server": {notify.Webhook{URL: "http://127.0.0.1:1/t0ken", Secret: hookSecret}, true, "refused"},
		"no answer": {notify.Webhook{URL: slow + "/t0ken", Secret: hookSecret, Timeout: 50 * time.Millisecond}, true, "deadline"},
		"no URL":    {notify.Webhook{Secret: hookSecret}, false, "does not begin with http"},
		"no secret": {notify.Webhook{URL: "http://127.0.0.1:1/t0ken"}, false, "shorter than 16"},
	} {
		retry, err := c.hook.Send(t.Context(), notify.Message{ID: "1"})
		if retry != c.retry || err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "t0ken") {
			t.Errorf("%s: retry %v, %v", name, retry, err)
		}
	}
}
