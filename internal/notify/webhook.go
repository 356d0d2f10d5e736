package notify

import (
	"bytes"
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/oneline"
)

const (
	sendTimeout = 10 * time.Second
	maxDrained  = 64 << 10 // bytes of an answer that are read
)

// Webhook sends messages to a URL by POST. Each is signed, so that a receiver can check
// that it comes from this sender and is not a replayed one:
//
//	Migrator-Timestamp   when it was sent, in seconds since 1970
//	Migrator-Signature   v1=<hex>: HMAC-SHA256, under Secret, of the timestamp, a dot
//	                     and the body
//	Idempotency-Key      the message's ID: the same at every attempt
//
// A receiver answers 2xx once it has the message.
type Webhook struct {
	URL     string
	Secret  []byte        // at least 16 bytes
	Timeout time.Duration // of one attempt; 0: 10 s
}

// Message is one message. Attempts to send it differ in their timestamp alone.
type Message struct {
	ID   string // ASCII
	Body []byte // JSON
}

// Headers of a webhook.
const (
	TimestampHeader   = "Migrator-Timestamp"
	SignatureHeader   = "Migrator-Signature"
	IdempotencyHeader = "Idempotency-Key"
)

const minSecret = 16

// Send makes one attempt. retry reports whether another attempt may succeed: after no
// connection, no answer in time, 408, 425, 429 or 5xx. Redirects are not followed. The error
// contains neither Secret nor the URL's path, which may contain a secret.
func (w *Webhook) Send(ctx context.Context, m Message) (retry bool, err error) {
	to, err := url.Parse(w.URL)
	if err != nil || to.Host == "" || to.Scheme != "http" && to.Scheme != "https" {
		return false, errors.New("the webhook's URL does not begin with http:// or https:// and a host")
	}
	if len(w.Secret) < minSecret {
		return false, hint.Errorf(hint.Hint{Text: "openssl rand -hex 32"}, "the webhook's secret is shorter than %d bytes", minSecret)
	}
	sending, cancel := context.WithTimeout(ctx, cmp.Or(w.Timeout, sendTimeout))
	defer cancel()
	r, err := http.NewRequestWithContext(sending, http.MethodPost, w.URL, bytes.NewReader(m.Body))
	if err != nil {
		return false, errors.New("the webhook's URL is not valid")
	}
	timestamp := strconv.FormatInt(time.Now().Unix(), 10)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", "migrator")
	r.Header.Set(TimestampHeader, timestamp)
	r.Header.Set(SignatureHeader, "v1="+hex.EncodeToString(sign(w.Secret, timestamp, m.Body)))
	r.Header.Set(IdempotencyHeader, m.ID)
	client := &http.Client{
		Transport:     &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := client.Do(r)
	if err != nil {
		if wrapped := new(url.Error); errors.As(err, &wrapped) {
			err = wrapped.Err // which does not repeat the URL
		}
		return true, fmt.Errorf("webhook to %s: %w", to.Host, err)
	}
	defer func() { _ = resp.Body.Close() }()
	_, _ = io.CopyN(io.Discard, resp.Body, maxDrained)
	if resp.StatusCode/100 == 2 {
		return false, nil
	}
	return retryable(resp.StatusCode), fmt.Errorf("webhook to %s: answered %s", to.Host, oneline.Of(resp.Status))
}

func retryable(status int) bool {
	switch status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return true
	}
	return status >= 500
}

func sign(secret []byte, timestamp string, body []byte) []byte {
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(timestamp))
	mac.Write([]byte{'.'})
	mac.Write(body)
	return mac.Sum(nil)
}

// Verify returns nil if a request's headers and body come from a sender that has the
// secret, and were sent within tolerance of now. Receivers use it.
func Verify(secret []byte, h http.Header, body []byte, now time.Time, tolerance time.Duration) error {
	timestamp := h.Get(TimestampHeader)
	sent, err := strconv.ParseInt(timestamp, 10, 64)
	if err != nil {
		return fmt.Errorf("%s is not a number of seconds", TimestampHeader)
	}
	signature, err := hex.DecodeString(trimVersion(h.Get(SignatureHeader)))
	if err != nil || len(secret) < minSecret || !hmac.Equal(signature, sign(secret, timestamp, body)) {
		return fmt.Errorf("%s does not match the body", SignatureHeader)
	}
	if age := now.Sub(time.Unix(sent, 0)); age.Abs() > tolerance {
		return fmt.Errorf("it was sent %s ago, and %s is the limit", age.Round(time.Second), tolerance)
	}
	return nil
}

func trimVersion(signature string) string {
	if len(signature) > 3 && signature[:3] == "v1=" {
		return signature[3:]
	}
	return "" // no signature
}
