package sources

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/infile"
	"github.com/stranglerfig/migrator/internal/oneline"
)

// An answer that is one number is some hundred bytes long.
const maxAnswer = 1 << 20

// transport sends a bearer token to one host, and reads answers up to maxAnswer.
type transport struct {
	next  *http.Transport
	home  *url.URL
	token string // or the user's password
	user  string // "": a bearer token
	last  *answered
}

func (p *Prometheus) transport() (*transport, error) {
	base, err := url.Parse(p.URL)
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" {
		return nil, errors.New("the URL of Prometheus is not http://host:9090 or https://host")
	}
	if base.User != nil {
		return nil, hint.Errorf(hint.Hint{Text: "put a bearer token into a file, and name it as token_file"}, "the URL of Prometheus has a user in it, which logs would show")
	}
	t := &transport{home: base, user: p.Username, next: &http.Transport{
		Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true, // a reading leaves nothing open
	}}
	if t.token, err = p.token(); err != nil {
		return nil, err
	}
	if p.CAFile != "" {
		pem, err := infile.Read(p.CAFile, infile.Middle)
		if err != nil {
			return nil, fmt.Errorf("the certificates for Prometheus: %w", err)
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s contains no PEM certificate", p.CAFile)
		}
		t.next.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	return t, nil
}

func (p *Prometheus) token() (string, error) {
	switch {
	case (p.TokenFile != "" || p.Username != "") && p.TokenEnv != "":
		return "", errors.New("the token for Prometheus comes from a file and from the environment: want one of them")
	case p.Username != "":
		raw, err := infile.Read(p.PasswordFile, infile.Small)
		if err != nil {
			return "", fmt.Errorf("the password for Prometheus: %w", err)
		}
		return strings.TrimRight(string(raw), "\r\n"), nil
	case p.TokenFile != "":
		raw, err := infile.Read(p.TokenFile, infile.Small)
		if err != nil {
			return "", fmt.Errorf("the token for Prometheus: %w", err)
		}
		return checkToken(string(raw), p.TokenFile)
	case p.TokenEnv != "":
		return checkToken(os.Getenv(p.TokenEnv), "$"+p.TokenEnv)
	}
	return "", nil
}

// checkToken refuses a token that is not valid in a header: net/http's error would quote it.
func checkToken(raw, from string) (string, error) {
	token := strings.TrimSpace(raw)
	if token == "" {
		return "", fmt.Errorf("the token for Prometheus: %s is empty", from)
	}
	for _, c := range []byte(token) {
		if c <= ' ' || c > '~' {
			return "", fmt.Errorf("the token for Prometheus: the content of %s is not one word of ASCII", from)
		}
	}
	return token, nil
}

// RoundTrip implements http.RoundTripper. Redirects pass here too: another host must not
// get the token.
func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if t.token != "" && r.URL.Host == t.home.Host && r.URL.Scheme == t.home.Scheme {
		r = r.Clone(r.Context())
		if t.user != "" {
			r.SetBasicAuth(t.user, t.token)
		} else {
			r.Header.Set("Authorization", "Bearer "+t.token)
		}
	}
	resp, err := t.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	resp.Body = &bounded{ReadCloser: resp.Body, left: maxAnswer}
	t.look(r, resp)
	return resp, nil
}

// redact removes the token from a server's text, and makes it one line.
func (t *transport) redact(s string) string {
	if t.token != "" {
		s = strings.ReplaceAll(s, t.token, "***")
	}
	return oneline.Of(s)
}

func (p *Prometheus) host() string {
	u, err := url.Parse(p.URL)
	if err != nil {
		return "its URL"
	}
	return u.Host
}

var errTooLong = fmt.Errorf("the answer is longer than %d bytes", maxAnswer)

type bounded struct {
	io.ReadCloser
	left int
}

func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p[:min(len(p), b.left+1)])
	if b.left -= n; b.left < 0 {
		return 0, errTooLong
	}
	return n, err
}
