package migration

import (
	"maps"
	"net/url"
	"slices"
	"strings"
)

// AddParameters adds the parameters that the URL does not have. It does not parse the
// URL: net/url refuses one with several hosts. A text that is no URL stays unchanged.
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
