package notify

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/notify/secrets"
	"github.com/stranglerfig/migrator/internal/oneline"
)

const (
	sendTimeout = 10 * time.Second
	maxDrained  = 64 << 10 // bytes of an answer that are read
)

// Webhook sends messages to a URL by POST, signed as Standard Webhooks 1.0.0 has it: receivers in most languages have
// a library that verifies them.
//
//	webhook-id         the message's ID: the same at every attempt
//	webhook-timestamp  when this attempt was made, in seconds since 1970
//	webhook-signature  one v1,BASE64 for each secret, separated by a space: HMAC-SHA256 of ID.TIMESTAMP.BODY
//
// A receiver answers 2xx once it has the message.
type Webhook struct {
	URL     string
	Secrets []secrets.Secret // one; two while a receiver changes from one to the other
	Timeout time.Duration    // of one attempt; 0: 10 s
}

// Message is one message. Attempts to send it differ in their timestamp alone.
type Message struct {
	ID   string // ASCII, without a dot
	Body []byte // JSON
}

// Send makes one attempt. retry reports whether another attempt may succeed: after no
// connection, no answer in time, 408, 425, 429 or 5xx. Redirects are not followed. The error
// contains neither a secret nor the URL's path, which may contain a secret.
func (w *Webhook) Send(ctx context.Context, m Message) (retry bool, err error) {
	to, err := url.Parse(w.URL)
	if err != nil || to.Host == "" || to.Scheme != "http" && to.Scheme != "https" {
		return false, errors.New("the webhook's URL does not begin with http:// or https:// and a host")
	}
	now := time.Now()
	signatures, err := w.sign(m, now)
	if err != nil {
		return false, err
	}
	sending, cancel := context.WithTimeout(ctx, cmp.Or(w.Timeout, sendTimeout))
	defer cancel()
	r, err := http.NewRequestWithContext(sending, http.MethodPost, w.URL, bytes.NewReader(m.Body))
	if err != nil {
		return false, errors.New("the webhook's URL is not valid")
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", "migrator")
	r.Header.Set(standardwebhooks.HeaderWebhookID, m.ID)
	r.Header.Set(standardwebhooks.HeaderWebhookTimestamp, strconv.FormatInt(now.Unix(), 10))
	r.Header.Set(standardwebhooks.HeaderWebhookSignature, signatures)
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

// sign returns a signature by each secret.
func (w *Webhook) sign(m Message, at time.Time) (string, error) {
	if len(w.Secrets) == 0 {
		return "", hint.Errorf(hint.Hint{Text: secrets.Make}, "the webhook has no secret")
	}
	var all []string
	for _, secret := range w.Secrets {
		if len(secret) < secrets.Least {
			return "", hint.Errorf(hint.Hint{Text: secrets.Make}, "the webhook's secret is shorter than %d bytes", secrets.Least)
		}
		signer, err := standardwebhooks.NewWebhookRaw(secret)
		if err != nil {
			return "", err
		}
		signature, err := signer.Sign(m.ID, at, m.Body)
		if err != nil {
			return "", err
		}
		all = append(all, signature)
	}
	return strings.Join(all, " "), nil
}
