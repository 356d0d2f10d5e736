package migration

import (
	"maps"
	"net/url"
	"path/filepath"
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

// SecretFiles are the files with secrets that the migration file names; those that are relative to
// its folder are below dir.
func (m *Config) SecretFiles(dir string) []string {
	files := []string{m.Legacy.URLFile, m.Target.URLFile, m.Prometheus.URLFile, m.Prometheus.TokenFile, m.Prometheus.PasswordFile}
	for _, w := range m.Webhooks {
		files = append(files, w.URLFile, w.SecretFile)
	}
	for _, p := range m.Runbook.Poolers {
		files = append(files, p.URLFile)
	}
	for _, c := range m.Runbook.Caches {
		files = append(files, c.TokenFile)
	}
	files = slices.DeleteFunc(files, func(file string) bool { return file == "" })
	for i, file := range files {
		if !filepath.IsAbs(file) {
			files[i] = filepath.Join(dir, file)
		}
	}
	slices.Sort(files)
	return slices.Compact(files)
}
