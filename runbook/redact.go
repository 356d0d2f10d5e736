package runbook

import (
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
)

const hidden = "(hidden)"

// Redactor removes secrets from what steps write: those that it was given, and text that has
// the form of one, such as the password in a URL or the value after password= or token=.
type Redactor struct{ secrets []string }

// leastSecret is the length from which a given text counts as a secret wherever it occurs.
const leastSecret = 5

// NewRedactor returns a Redactor for URLs, with the passwords in them, and other texts.
func NewRedactor(secrets ...string) *Redactor {
	r := &Redactor{}
	add := func(s string) {
		for line := range strings.Lines(s) {
			if line = strings.TrimSpace(line); len(line) >= leastSecret && !slices.Contains(r.secrets, line) {
				r.secrets = append(r.secrets, line)
			}
		}
	}
	for _, s := range secrets {
		if u, err := url.Parse(s); err == nil && u.User != nil {
			add(s)
			if password, ok := u.User.Password(); ok {
				add(password)
				add(url.QueryEscape(password))
				add(url.PathEscape(password))
			}
			continue
		}
		if !strings.Contains(s, "://") || strings.ContainsAny(s, "?@") { // a URL without a user is no secret
			add(s)
		}
	}
	slices.SortFunc(r.secrets, func(a, b string) int { return len(b) - len(a) })
	return r
}

var secretNames = regexp.MustCompile(`(?i)(password|passwd|secret|token|api_?key|credential|private_?key)`)

// FromEnvironment returns the values of environment variables whose names mark them as
// secrets.
func FromEnvironment() []string {
	var found []string
	for _, pair := range os.Environ() {
		name, value, _ := strings.Cut(pair, "=")
		if secretNames.MatchString(name) && !strings.HasSuffix(strings.ToUpper(name), "_FILE") {
			found = append(found, value)
		}
	}
	return found
}

var (
	inURL   = regexp.MustCompile(`([a-zA-Z][a-zA-Z0-9+.-]*://[^\s:/?#@]*):[^\s@/]+@`)
	atName  = regexp.MustCompile(`(?i)\b([a-z_]*(?:password|passwd|secret|token|api_?key)["']?\s*[=:]\s*["']?)[^\s"',;&]+`)
	inAuthH = regexp.MustCompile(`(?i)\b(authorization:\s*[a-z]+\s+)\S+`)
)

// Text returns the text without secrets.
func (r *Redactor) Text(s string) string {
	if r != nil {
		for _, secret := range r.secrets {
			s = strings.ReplaceAll(s, secret, hidden)
		}
	}
	s = inURL.ReplaceAllString(s, "$1:"+hidden+"@")
	s = atName.ReplaceAllString(s, "${1}"+hidden)
	return inAuthH.ReplaceAllString(s, "${1}"+hidden)
}
