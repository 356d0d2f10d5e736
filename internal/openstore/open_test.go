package openstore

import (
	"testing"

	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/record"
)

func TestAStoreThatCantBeOpenedIsNil(t *testing.T) {
	t.Parallel()
	m := &migration.Config{Name: "move"}
	m.Legacy.Store, m.Legacy.Table, m.Legacy.URL = "postgres", "items", "postgres://127.0.0.1:1/nowhere?sslmode=disable"
	legacy, err := OpenLegacy(t.Context(), m)
	if err == nil || legacy != nil {
		t.Errorf("legacy: %v, %v", legacy, err)
	}
	for _, kind := range []string{"redis", "postgres"} {
		m.Target.Store, m.Target.Table, m.Target.KeyTemplate = kind, "items", "item:{id}"
		m.Target.URL = map[string]string{"redis": "redis://127.0.0.1:1/0?max_retries=-1", "postgres": m.Legacy.URL}[kind]
		target, err := OpenTarget(t.Context(), m, &record.Schema{})
		if err == nil || target != nil {
			t.Errorf("%s: %v, %v", kind, target, err)
		}
	}
}
