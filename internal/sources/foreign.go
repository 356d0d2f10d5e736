package sources

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/stranglerfig/migrator/internal/hint"
)

// answered is the last answer, as far as it shows who gave it.
type answered struct {
	status int
	kind   string // Content-Type
	host   string // after redirects
	begins []byte // of the body
	empty  bool
}

const shownBytes = 512

// look notes an answer, and leaves its body as it was.
func (t *transport) look(r *http.Request, resp *http.Response) {
	begins := make([]byte, shownBytes)
	n, err := io.ReadFull(resp.Body, begins)
	begins = begins[:n]
	t.last = &answered{
		status: resp.StatusCode, kind: resp.Header.Get("Content-Type"), host: r.URL.Host,
		begins: begins, empty: len(bytes.TrimSpace(begins)) == 0 && errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) && len(bytes.TrimSpace(begins)) == 0,
	}
	rest := io.Reader(resp.Body)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		rest = failing{err}
	}
	resp.Body = joined{io.MultiReader(bytes.NewReader(begins), rest), resp.Body}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

type joined struct {
	io.Reader
	io.Closer
}

// failure is the row of the table of failures that an error belongs to, with the words of who answered.
func (t *transport) failure(err error) (f hint.Failure, words string, ok bool) {
	text := err.Error()
	switch {
	case strings.Contains(text, errTooLong.Error()):
		return f, "", false
	case strings.Contains(text, "server gave HTTP response to HTTPS client"):
		f, ok = hint.Row(hint.Prometheus, "tls-not-spoken")
		return f, text, ok
	case t.last == nil:
		f, ok = hint.Row(hint.Prometheus, hint.Reach(err))
		return f, text, ok
	}
	a := t.last
	begins := strings.ToLower(string(bytes.TrimSpace(a.begins)))
	answer := fmt.Sprintf("HTTP %d from %s", a.status, a.host)
	if a.kind != "" {
		answer += ", " + a.kind
	}
	code, words := strconv.Itoa(a.status), reason(err)
	switch {
	case strings.HasPrefix(begins, "{"): // Prometheus's own error, whose text says what it is
		return f, "", false
	case strings.Contains(begins, "http request to an https server"), strings.Contains(begins, "plain http request was sent to https port"):
		code, words = "tls-demanded", answer
	case a.status < http.StatusBadRequest && (strings.Contains(a.kind, "html") || strings.HasPrefix(begins, "<")):
		code, words = "login", answer
	case a.status < http.StatusBadRequest && a.empty:
		code, words = "empty", answer
	case a.status < http.StatusBadRequest:
		code, words = "not-json", answer
	}
	f, ok = hint.Row(hint.Prometheus, code)
	return f, words, ok
}
