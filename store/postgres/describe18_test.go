package postgres_test

import (
	"strings"
	"testing"

	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store/postgres"
)

// TestKeysOfNewerServers: a primary key WITHOUT OVERLAPS is an exclusion constraint, and a NOT NULL
// that is NOT VALID says nothing of the rows that are there. Both are of PostgreSQL 18: name one by
// MIGRATOR_TEST_POSTGRES_URL.
func TestKeysOfNewerServers(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	if d.text("SELECT (current_setting('server_version_num')::int < 180000)::text") == "true" {
		t.Skip("needs PostgreSQL 18")
	}
	for name, c := range map[string]struct{ ddl, want string }{
		"temporal":  {`(id int4range, at tstzrange, PRIMARY KEY (id, at WITHOUT OVERLAPS))`, "is WITHOUT OVERLAPS"},
		"unique":    {`(id int4range NOT NULL, at tstzrange NOT NULL, UNIQUE (id, at WITHOUT OVERLAPS))`, "has no unique index over exactly the key's columns"},
		"not valid": {`(id int4range, at tstzrange, CONSTRAINT n NOT NULL at NOT VALID, UNIQUE (id, at))`, "may be null"},
		"valid":     {`(id int4range NOT NULL, at tstzrange NOT NULL, UNIQUE (id, at))`, ""},
	} {
		d.exec(`DROP TABLE IF EXISTS items, copies; CREATE TABLE items ` + c.ddl + `; CREATE TABLE copies (id int4range, at tstzrange, PRIMARY KEY (id, at))`)
		m := &migration.Config{Name: "m", Legacy: migration.Legacy{Part: &postgres.LegacyConfig{Table: "items", Key: []string{"id", "at"}}}}
		l, err := postgres.OpenLegacy(d.ctx, m, d.url)
		if err == nil {
			l.Close()
		}
		schema := &record.Schema{Key: []int{0, 1}, Fields: []record.Field{
			{Name: "id", Target: "id", Kind: record.Other, Type: "int4range", NotNull: true},
			{Name: "at", Target: "at", Kind: record.Other, Type: "tstzrange", NotNull: true},
		}}
		m.Target = migration.Target{Part: &postgres.TargetConfig{Table: "items"}}
		target, failed := postgres.OpenTarget(d.ctx, m, d.url, schema)
		if failed == nil {
			d.ok(target.Close())
		}
		for side, err := range map[string]error{"legacy": err, "target": failed} {
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%s, %s: %v, want %q", name, side, err, c.want)
			}
		}
	}
}
