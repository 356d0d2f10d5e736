package postgres_test

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
	"github.com/stranglerfig/migrator/store/postgres"
	"github.com/stranglerfig/migrator/store/storetest"
)

// createTable makes a table for the schema.
func createTable(schema *record.Schema) string {
	var columns, key []string
	for _, f := range schema.Fields {
		columns = append(columns, pgx.Identifier{f.Target}.Sanitize()+" "+f.Type)
	}
	for _, i := range schema.Key {
		key = append(key, pgx.Identifier{schema.Fields[i].Target}.Sanitize())
	}
	return `CREATE TABLE "The Target" (` + strings.Join(columns, ", ") + `, PRIMARY KEY (` + strings.Join(key, ", ") + `))`
}

func (d *database) target(m *migration.Config, schema *record.Schema) *postgres.Target {
	d.Helper()
	m.Target = migration.Target{Store: "postgres", Part: &postgres.TargetConfig{Table: `"The Target"`}}
	target, err := postgres.OpenTarget(d.ctx, m, d.url, schema)
	d.ok(err)
	d.Cleanup(func() { _ = target.Close() })
	d.ok(target.Prepare(d.ctx))
	d.ok(target.Prepare(d.ctx))
	return target
}

func TestTargetConformance(t *testing.T) {
	t.Parallel()
	storetest.RunTarget(t, storetest.TargetHarness{
		Open: func(t *testing.T, schema *record.Schema, o storetest.TargetOptions) store.Target {
			d := newDatabase(t)
			d.exec(createTable(schema))
			return d.target(&migration.Config{Name: "it's a test", Writing: migration.Writing{Tombstones: phases.Duration(o.Tombstones)}}, schema)
		},
		Foreign: func(t *testing.T, target store.Target, key record.Key) {
			_, err := target.(*postgres.Target).Pool().Exec(t.Context(), `INSERT INTO "The Target" (id, name) VALUES ($1::text::int8, 'another writer''s')`, string(key))
			if err != nil {
				t.Fatal(err)
			}
		},
	})
}
