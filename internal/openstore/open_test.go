package openstore

import (
	"testing"

	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store/postgres"
	"github.com/stranglerfig/migrator/store/redis"
)

func TestAStoreThatCantBeOpenedIsNil(t *testing.T) {
	t.Parallel()
	const nowhere = "postgres://127.0.0.1:1/nowhere?sslmode=disable"
	m := &migration.Config{Name: "move", Legacy: migration.Legacy{Store: "postgres", URL: nowhere, Part: &postgres.LegacyConfig{Table: "items"}}}
	legacy, err := m.OpenLegacy(t.Context())
	if err == nil || legacy != nil {
		t.Errorf("legacy: %v, %v", legacy, err)
	}
	for _, to := range []migration.Target{
		{Store: "redis", URL: "redis://127.0.0.1:1/0?max_retries=-1", Part: &redis.TargetConfig{KeyTemplate: "item:{id}"}},
		{Store: "postgres", URL: nowhere, Part: &postgres.TargetConfig{Table: "items"}},
		{Store: "another"},
	} {
		m.Target = to
		target, err := m.OpenTarget(t.Context(), &record.Schema{})
		if err == nil || target != nil {
			t.Errorf("%s: %v, %v", to.Store, target, err)
		}
	}
}

func TestLimitLoad(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		part                                   migration.TargetPart
		legacy, target, wantLegacy, wantTarget string
	}{
		"plain": {
			&redis.TargetConfig{}, "postgres://u:p%20w@h/db", "redis://h:6379/0",
			"postgres://u:p%20w@h/db?pool_max_conns=4&statement_timeout=1000", "redis://h:6379/0?pool_size=4",
		},
		"its own": {
			&postgres.TargetConfig{}, "postgres://h/db?statement_timeout=7&pool_max_conns=2", "postgres://a:1,b:2/db?sslmode=disable",
			"postgres://h/db?statement_timeout=7&pool_max_conns=2", "postgres://a:1,b:2/db?sslmode=disable&pool_max_conns=4&statement_timeout=1000",
		},
	} {
		m := &migration.Config{Legacy: migration.Legacy{URL: c.legacy, Part: &postgres.LegacyConfig{}}, Target: migration.Target{URL: c.target, Part: c.part}}
		m.Reconcile.MaxConnections, m.Reconcile.StatementTimeout = 4, 1_000_000_000
		m.LimitLoad()
		if m.Legacy.URL != c.wantLegacy || m.Target.URL != c.wantTarget {
			t.Errorf("%s: %s and %s", name, m.Legacy.URL, m.Target.URL)
		}
	}
}
