package migration

import (
	"net/url"
	"slices"
	"strings"
)

const hidden = "(hidden)"

// RedactURL keeps of a store's URL what an operator needs to recognise it: scheme,
// user, host and path. What can't be told apart for sure is hidden as a whole.
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
	// A password with an unescaped sign ends the host too early; its rest would show.
	if strings.Contains(u.Host+u.Path+u.RawQuery+u.Fragment, "@") {
		return hidden
	}
	shown := url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}
	if user := u.User.Username(); user != "" {
		shown.User = url.User(user)
	}
	return shown.String()
}

// redactWords does the same for "host=... user=... password=...".
func redactWords(raw string) string {
	if strings.ContainsAny(raw, `'"\@`) {
		return hidden // a quoted value may hold what looks like another word
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

// Redacted is a copy whose URLs are fit to be shown.
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
