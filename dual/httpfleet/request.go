package httpfleet

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/infile"
	"github.com/stranglerfig/migrator/phases"
)

const (
	base       = "/api/v1/migrations/"
	within     = 10 * time.Second // of a request whose context has no end
	mostAnswer = 16 << 20         // bytes
)

// Error is a daemon's refusal. dual's own errors wrap it where there is one: errors.Is(err, dual.ErrLeaseLost).
type Error struct {
	Status int    // of HTTP
	Code   string // see docs/api.md; "": the answer was no problem document
	Detail string
	Try    string

	is error
}

func (e *Error) Error() string {
	if e.Code == "" {
		return fmt.Sprintf("the daemon answered %d %s", e.Status, http.StatusText(e.Status))
	}
	return e.Detail
}

// Unwrap is dual's own error for it.
func (e *Error) Unwrap() error { return e.is }

// Hint is the daemon's remedy. What answers without a problem document is no daemon that serves the HTTP API.
func (e *Error) Hint() dual.Hint {
	if e.Code == "" {
		return served
	}
	return hint.Hint{Text: e.Try}
}

const (
	codeTooLarge   = "body-too-large"
	codeNoEndpoint = "no-such-endpoint"
)

func code(err error) string {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// known are the errors of dual by a problem's code.
var known = map[string]error{
	"lease-lost": dual.ErrLeaseLost, "route-moved": dual.ErrRouteMoved, "other-moves": dual.ErrOtherMoves, "target-lost": dual.ErrTargetLost,
}

// again reports whether another daemon, or the same one later, may do what this one did not.
func (e *Error) again() bool {
	return e.Status == http.StatusBadGateway || e.Status == http.StatusServiceUnavailable || e.Status == http.StatusGatewayTimeout
}

// do sends a request to the daemon that answered last, and then to each of the others, until one does what is asked or
// refuses it. Of the time that ctx leaves, each daemon gets its share: one whose machine is gone must not use it up.
func (f *Fleet) do(ctx context.Context, method, path string, request, into any) error {
	var body []byte
	if request != nil {
		var err error
		if body, err = json.Marshal(request); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	end, _ := ctx.Deadline()
	urls, first := f.options.URLs, int(f.at.Load())
	var failed []error
	for n := range urls {
		at := (first + n) % len(urls)
		attempt, cancel := context.WithTimeout(ctx, time.Until(end)/time.Duration(len(urls)-n))
		err := f.ask(attempt, urls[at], method, path, body, into)
		cancel()
		var refused *Error
		if err == nil || errors.As(err, &refused) && !refused.again() {
			f.at.Store(int64(at))
			return err
		}
		failed = append(failed, err)
		if ctx.Err() != nil {
			break
		}
	}
	if len(failed) == 1 {
		return failed[0]
	}
	return errors.Join(failed...)
}

func (f *Fleet) ask(ctx context.Context, root, method, path string, body []byte, into any) error {
	answer, err := f.send(ctx, root, method, path, body)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(answer.Body, mostAnswer+1))
	switch {
	case err != nil:
		return fmt.Errorf("the answer of the daemon broke off: %w", err)
	case len(text) > mostAnswer:
		return fmt.Errorf("the answer of the daemon is longer than %d bytes", mostAnswer)
	case answer.StatusCode == http.StatusNoContent && into == nil:
		return nil
	case answer.StatusCode == http.StatusOK && into != nil:
		if err := json.Unmarshal(text, into); err != nil {
			return fmt.Errorf("the answer to %s is not the document that docs/api.md describes: is the address that of a daemon? %w", path, err)
		}
		return nil
	}
	return refusal(answer.StatusCode, text)
}

// send sends a request with the token.
func (f *Fleet) send(ctx context.Context, root, method, path string, body []byte) (*http.Response, error) {
	given, err := f.token.current()
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(root, "/")+base+url.PathEscape(f.migration)+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Authorization", "Bearer "+given)
	if len(body) > 0 {
		r.Header.Set("Content-Type", "application/json")
	}
	// A connection that the daemon has closed meanwhile is replaced: each request may be repeated. It is not sent.
	r.Header["Idempotency-Key"] = nil
	answer, err := f.client.Do(r)
	if err != nil {
		return nil, unanswered(err)
	}
	return answer, nil
}

// served is what to do where no daemon that serves the HTTP API answers.
var served = hint.Hint{Do: hint.Serve, Text: "with the HTTP API switched on, or give the address of a daemon that has it"}

func unanswered(err error) error {
	var untrusted *tls.CertificateVerificationError
	var other x509.HostnameError
	switch {
	case errors.As(err, &other):
		return hint.Errorf(hint.Hint{Text: "an address that the daemon's certificate is for"}, "the daemon's certificate is for another address: %w", err)
	case errors.As(err, &untrusted):
		return hint.Errorf(hint.Hint{Text: "Options.CAFile with the authority that has signed the daemon's certificate, if it is the daemon that answers at this address"},
			"the daemon's certificate is not trusted: %w", err)
	}
	return hint.With(fmt.Errorf("no answer of a daemon: %w", err), served)
}

// refusal is what a daemon has refused.
func refusal(status int, text []byte) error {
	var p struct {
		Code, Detail, Try string
		Conflict          *struct{ To, Live phases.Route }
	}
	if json.Unmarshal(text, &p) != nil {
		p.Code = "" // of a proxy
	}
	if p.Conflict != nil && p.Code == "route-conflict" {
		return &phases.RouteConflictError{To: p.Conflict.To, Live: p.Conflict.Live}
	}
	return &Error{Status: status, Code: p.Code, Detail: p.Detail, Try: p.Try, is: known[p.Code]}
}

// token is what requests are made with.
type token struct {
	path string

	mu   sync.Mutex
	text string
	at   time.Time // of the file as it was read
	size int64
}

// current reads the file again when it has changed. One that can't be read leaves the token that there is in force.
func (t *token) current() (string, error) {
	if t.path == "" {
		return t.text, nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	info, err := os.Stat(t.path)
	if err == nil && t.text != "" && info.ModTime().Equal(t.at) && info.Size() == t.size {
		return t.text, nil
	}
	var text string
	if err == nil {
		text, err = infile.Text(t.path)
	}
	if err != nil {
		if t.text != "" {
			return t.text, nil
		}
		return "", fmt.Errorf("the token's file: %w", err)
	}
	t.text, t.at, t.size = text, info.ModTime(), info.Size() // of before it was read: a change meanwhile is read again
	return text, nil
}
