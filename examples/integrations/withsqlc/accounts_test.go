package withsqlc_test

import (
	"context"
	"os"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/stranglerfig/migrator/dual/dualtest"
	"github.com/stranglerfig/migrator/examples/integrations/internal/labtest"
	"github.com/stranglerfig/migrator/examples/integrations/withsqlc"
	"github.com/stranglerfig/migrator/examples/integrations/withsqlc/db"
	"github.com/stranglerfig/migrator/internal/test/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

func TestWrites(t *testing.T) {
	t.Parallel()
	ddl, err := os.ReadFile("schema.sql")
	if err != nil {
		t.Fatal(err)
	}
	lab, m := labtest.Open(t, "accounts", string(ddl)+`INSERT INTO accounts SELECT i, 'owner ' || i, 100, '2024-01-01Z' FROM generate_series(1, 5) i`)
	pool, err := pgxpool.New(t.Context(), m.Legacy.URL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	accounts, err := withsqlc.Open(t.Context(), pool, m, lab.Options())
	if err != nil {
		t.Fatal(err)
	}
	lab.Serve(accounts)
	own := dualtest.Ignore("changed") // each call has its own time
	lab.Check("add", func(ctx context.Context) error { return accounts.AddCents(ctx, 1, 5) }, own)
	lab.Check("add to none", func(ctx context.Context) error { return accounts.AddCents(ctx, 100, 5) })
	lab.Check("replace", func(ctx context.Context) error {
		return accounts.Replace(ctx, db.Account{ID: 2, Owner: "Zoë", Cents: -1})
	}, own)
	lab.Check("make", func(ctx context.Context) error { return accounts.Replace(ctx, db.Account{ID: 20, Owner: "n"}) }, own)
	lab.Check("remove", func(ctx context.Context) error { return accounts.Remove(ctx, 3) })
}
