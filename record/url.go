package record

import "strings"

// URLError is an invalid store URL, found before any connection is made. It contains no part
// of the URL that may be secret.
type URLError string

// Error implements error.
func (e URLError) Error() string { return string(e) }

// SplitsPassword reports whether a URL seems to have a password with a bare /, ? or #, which ends
// the host's part too early: what is before it would be taken for the host, and shown as one.
func SplitsPassword(url string) bool {
	_, rest, ok := strings.Cut(url, "://")
	if !ok {
		return false
	}
	if strings.Contains(rest, "#") {
		return true // no store's URL has a fragment
	}
	end := strings.IndexAny(rest, "/?")
	if end < 0 || strings.Contains(rest[:end], "@") {
		return false
	}
	path, query, _ := strings.Cut(rest[end:], "?")
	first, _, named := strings.Cut(query, "=")
	return strings.Contains(path, "@") || strings.Contains(first, "@") || !named && strings.Contains(query, "@")
}
