package openstore

import (
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/stranglerfig/migrator/migration"
)

// LimitLoad adds the migration file's limits of a reconcile run to the stores' URLs: the
// stores' drivers enforce them. A limit that a URL has stays.
func LimitLoad(m *migration.Config) {
	r := m.Reconcile
	postgres := map[string]string{}
	if r.MaxConnections > 0 {
		postgres["pool_max_conns"] = strconv.Itoa(r.MaxConnections)
	}
	if r.StatementTimeout > 0 {
		postgres["statement_timeout"] = strconv.FormatInt(time.Duration(r.StatementTimeout).Milliseconds(), 10)
	}
	m.Legacy.URL = withParameters(m.Legacy.URL, postgres)
	switch m.Target.Store {
	case "postgres":
		m.Target.URL = withParameters(m.Target.URL, postgres)
	case "redis":
		if r.MaxConnections > 0 {
			m.Target.URL = withParameters(m.Target.URL, map[string]string{"pool_size": strconv.Itoa(r.MaxConnections)})
		}
	}
}

// withParameters adds the parameters that the URL does not have. It does not parse the
// URL: net/url refuses one with several hosts.
func withParameters(text string, add map[string]string) string {
	if !strings.Contains(text, "://") {
		return text
	}
	for _, name := range slices.Sorted(maps.Keys(add)) {
		mark := "?"
		if _, query, found := strings.Cut(text, "?"); found {
			if strings.Contains("&"+query, "&"+name+"=") {
				continue
			}
			mark = "&"
		}
		text += mark + name + "=" + url.QueryEscape(add[name])
	}
	return text
}
