package withent_test

import (
	"context"
	"database/sql"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"

	"github.com/stranglerfig/migrator/dual/dualtest"
	"github.com/stranglerfig/migrator/examples/integrations/internal/labtest"
	"github.com/stranglerfig/migrator/examples/integrations/withent"
	"github.com/stranglerfig/migrator/examples/integrations/withent/ent"
	"github.com/stranglerfig/migrator/internal/test/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

const table = `
CREATE TABLE accounts (
	id      bigint PRIMARY KEY,
	owner   text NOT NULL,
	cents   bigint NOT NULL,
	changed timestamptz NOT NULL
);
INSERT INTO accounts SELECT i, 'owner ' || i, 100, '2024-01-01Z' FROM generate_series(1, 5) i`

func TestWrites(t *testing.T) {
	t.Parallel()
	lab, m := labtest.Open(t, "accounts", table)
	db, err := sql.Open("pgx", m.Legacy.URL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	accounts, err := withent.Open(t.Context(), db, m, lab.Options())
	if err != nil {
		t.Fatal(err)
	}
	lab.Serve(accounts)
	own := dualtest.Ignore("changed") // each call has its own time
	lab.Check("add", func(ctx context.Context) error { return accounts.AddCents(ctx, 1, 5) }, own)
	lab.Check("add to none", func(ctx context.Context) error { return accounts.AddCents(ctx, 100, 5) })
	lab.Check("replace", func(ctx context.Context) error {
		return accounts.Replace(ctx, ent.Account{ID: 2, Owner: "Zoë", Cents: -1})
	}, own)
	lab.Check("make", func(ctx context.Context) error { return accounts.Replace(ctx, ent.Account{ID: 20, Owner: "n"}) }, own)
	lab.Check("remove", func(ctx context.Context) error { return accounts.Remove(ctx, 3) })
	lab.Check("remove none", func(ctx context.Context) error { return accounts.Remove(ctx, 3) })
}
