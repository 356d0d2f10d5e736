// Package labtest opens what the tests of the integrations share: a database, a migration and
// a lab.
package labtest

import (
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/dual/dualtest"
	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/store/memory"
	"github.com/stranglerfig/migrator/store/postgres"
)

// Open makes the tables in a database of the test's own, and the lab of one of them. The
// database's URL is m.Legacy.URL.
func Open(t *testing.T, table, ddl string) (*dualtest.Lab, *migration.Config) {
	t.Helper()
	url := testenv.PostgresURL(t)
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(t.Context()) }()
	if _, err := conn.Exec(t.Context(), ddl, pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatal(err)
	}
	file := []byte("name: " + table + "\nlegacy: {store: postgres, table: " + table + ", url: '" + url + "'}\ntarget: {store: memory}\n")
	m, err := migration.Parse(table+".yaml", file, nil, postgres.Kind(), memory.Kind())
	if err != nil {
		t.Fatal(err)
	}
	return dualtest.New(t, m), m
}
