package migration

import (
	"maps"
	"net/url"
	"slices"
	"strings"
)

// AddParameters adds parameters that the URL has not. It does not take the URL
// apart: one with several hosts is none to net/url. What is no URL stays as it is.
func AddParameters(text string, add map[string]string) string {
	if !strings.Contains(text, "://") {
		return text
	}
	for _, name := range slices.Sorted(maps.Keys(add)) {
		mark := "?"
		if _, query, any := strings.Cut(text, "?"); any {
			if strings.Contains("&"+query, "&"+name+"=") {
				continue
			}
			mark = "&"
		}
		text += mark + name + "=" + url.QueryEscape(add[name])
	}
	return text
}
