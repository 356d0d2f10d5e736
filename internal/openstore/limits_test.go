package openstore_test

import (
	"testing"

	"github.com/stranglerfig/migrator/internal/openstore"
	"github.com/stranglerfig/migrator/migration"
)

func TestLimitLoad(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ store, legacy, target, wantLegacy, wantTarget string }{
		"plain": {
			"redis", "postgres://u:p%20w@h/db", "redis://h:6379/0",
			"postgres://u:p%20w@h/db?pool_max_conns=4&statement_timeout=1000", "redis://h:6379/0?pool_size=4",
		},
		"its own": {
			"postgres", "postgres://h/db?statement_timeout=7&pool_max_conns=2", "postgres://a:1,b:2/db?sslmode=disable",
			"postgres://h/db?statement_timeout=7&pool_max_conns=2", "postgres://a:1,b:2/db?sslmode=disable&pool_max_conns=4&statement_timeout=1000",
		},
	} {
		m := &migration.Config{Legacy: migration.Legacy{URL: c.legacy}, Target: migration.Target{Store: c.store, URL: c.target}}
		m.Reconcile.MaxConnections, m.Reconcile.StatementTimeout = 4, 1_000_000_000
		openstore.LimitLoad(m)
		if m.Legacy.URL != c.wantLegacy || m.Target.URL != c.wantTarget {
			t.Errorf("%s: %s and %s", name, m.Legacy.URL, m.Target.URL)
		}
	}
}
