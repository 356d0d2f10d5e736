package postgres_test

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/spec"
	"github.com/stranglerfig/migrator/stores/postgres"
	"github.com/stranglerfig/migrator/stores/storetest"
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

func (d *database) target(m *spec.Migration, schema *record.Schema) *postgres.Target {
	d.Helper()
	m.Target = spec.Target{Store: "postgres", Table: `"The Target"`}
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
		Open: func(t *testing.T, schema *record.Schema, o storetest.TargetOptions) record.Target {
			d := newDatabase(t)
			d.exec(createTable(schema))
			return d.target(&spec.Migration{Name: "it's a test", Writing: spec.Writing{Tombstones: phases.Duration(o.Tombstones)}}, schema)
		},
		Foreign: func(t *testing.T, target record.Target, key record.Key) {
			_, err := target.(*postgres.Target).Pool().Exec(t.Context(), `INSERT INTO "The Target" (id, name) VALUES ($1::text::int8, 'somebody else''s')`, string(key))
			if err != nil {
				t.Fatal(err)
			}
		},
	})
}
