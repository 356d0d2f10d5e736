package embedding_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/stranglerfig/migrator/dual/dualtest"
	"github.com/stranglerfig/migrator/examples/embedding"
	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/store/memory"
	"github.com/stranglerfig/migrator/store/postgres"
)

func TestMain(m *testing.M) { testenv.Main(m) }

func TestWrites(t *testing.T) {
	t.Parallel()
	url := testenv.PostgresURL(t)
	db, err := pgxpool.New(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	for _, sql := range []string{embedding.Schema, `INSERT INTO customers SELECT i, i || '@example.org', NULL, 100 FROM generate_series(1, 9) i`} {
		if _, err := db.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	file := []byte("name: customers\nlegacy: {store: postgres, table: customers, url: '" + url + "'}\ntarget: {store: memory}\n")
	m, err := migration.Parse("customers.yaml", file, nil, postgres.Kind(), memory.Kind())
	if err != nil {
		t.Fatal(err)
	}
	lab := dualtest.New(t, m)
	customers, err := embedding.Open(t.Context(), db, m, lab.Options())
	if err != nil {
		t.Fatal(err)
	}
	lab.Serve(customers)
	own := dualtest.Ignore("changed") // each call has its own time
	name := "Zoë"
	for _, c := range []struct {
		name  string
		write func(context.Context) error
	}{
		{"add", func(ctx context.Context) error { return customers.AddPoints(ctx, 1, 5) }},
		{"add to none", func(ctx context.Context) error { return customers.AddPoints(ctx, 100, 5) }},
		{"replace", func(ctx context.Context) error {
			return customers.Replace(ctx, embedding.Customer{ID: 2, Email: "z@example.org", Name: &name, Points: 7})
		}},
		{"make", func(ctx context.Context) error {
			return customers.Replace(ctx, embedding.Customer{ID: 20, Email: "n@example.org"})
		}},
		{"transfer", func(ctx context.Context) error { return customers.Transfer(ctx, 3, 4, 30) }},
		{"transfer too much", func(ctx context.Context) error { return customers.Transfer(ctx, 3, 4, 3000) }},
		{"remove", func(ctx context.Context) error { return customers.Remove(ctx, 5) }},
		{"renumber", func(ctx context.Context) error { return customers.Renumber(ctx, 6, 60) }},
	} {
		lab.Check(c.name, c.write, own)
	}
}
