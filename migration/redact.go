package migration

import (
	"net/url"
	"slices"
	"strings"
)

const hidden = "(hidden)"

// RedactURL keeps the parts of a store's URL that an operator needs to recognise it:
// scheme, user, host and path. A URL whose parts are ambiguous is hidden as a whole.
func RedactURL(raw string) string {
	switch {
	case raw == "":
		return ""
	case !strings.Contains(raw, "://"):
		return redactWords(raw)
	}
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" && u.Path == "" {
		return hidden
	}
	// An unescaped sign in the password ends the host too early; the rest would be shown.
	if strings.Contains(u.Host+u.Path+u.RawQuery+u.Fragment, "@") {
		return hidden
	}
	shown := url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}
	if user := u.User.Username(); user != "" {
		shown.User = url.User(user)
	}
	return shown.String()
}

// redactWords is RedactURL for "host=... user=... password=...".
func redactWords(raw string) string {
	if strings.ContainsAny(raw, `'"\@`) {
		return hidden // a quoted value may contain what resembles another parameter
	}
	var kept []string
	for _, word := range strings.Fields(raw) {
		switch key, _, ok := strings.Cut(word, "="); {
		case !ok:
			return hidden
		case key == "host" || key == "hostaddr" || key == "port" || key == "user" || key == "dbname":
			kept = append(kept, word)
		}
	}
	if len(kept) == 0 {
		return hidden
	}
	return strings.Join(kept, " ")
}

// Redacted is a copy without secrets in its URLs.
func Redacted(m *Config) *Config {
	shown := *m
	shown.Legacy.URL = RedactURL(m.Legacy.URL)
	shown.Target.URL = RedactURL(m.Target.URL)
	shown.Prometheus.URL = RedactURL(m.Prometheus.URL)
	shown.Webhooks = slices.Clone(m.Webhooks)
	for i := range shown.Webhooks {
		if shown.Webhooks[i].URL != "" {
			shown.Webhooks[i].URL = hidden // its path is often the secret
		}
	}
	return &shown
}
