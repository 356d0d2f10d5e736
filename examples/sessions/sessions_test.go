package sessions_test

import (
	"context"
	"database/sql"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/dual/dualtest"
	"github.com/stranglerfig/migrator/examples/sessions"
	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/store/memory"
	"github.com/stranglerfig/migrator/store/postgres"
)

func TestMain(m *testing.M) { testenv.Main(m) }

func TestWrites(t *testing.T) {
	t.Parallel()
	url := testenv.PostgresURL(t) // or whatever gives your tests a PostgreSQL database of their own
	db, err := sql.Open("postgres", url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	if _, err := db.ExecContext(t.Context(), sessions.Schema+`; INSERT INTO sessions VALUES ('a', 1, '2030-01-01Z')`); err != nil {
		t.Fatal(err)
	}
	file := []byte("name: sessions\nlegacy: {store: postgres, table: sessions, url: '" + url + "'}\ntarget: {store: memory}\n")
	m, err := migration.Parse("sessions.yaml", file, nil, postgres.Kind(), memory.Kind())
	if err != nil {
		t.Fatal(err)
	}
	lab := dualtest.New(t, m)
	store, err := sessions.Open(t.Context(), db, m, lab.Options())
	if err != nil {
		t.Fatal(err)
	}
	lab.Serve(store)
	expires := time.Date(2031, 1, 1, 0, 0, 0, 0, time.UTC)
	lab.Check("new", func(ctx context.Context) error {
		return store.Save(ctx, sessions.Session{Token: "b", UserID: 2, Expires: expires})
	})
	lab.Check("replaced", func(ctx context.Context) error {
		return store.Save(ctx, sessions.Session{Token: "a", UserID: 3, Expires: expires})
	})
	lab.Check("extended", func(ctx context.Context) error { return store.Extend(ctx, "a", time.Hour) })
	lab.Check("not there", func(ctx context.Context) error { return store.Extend(ctx, "c", time.Hour) })
	lab.Check("ended", func(ctx context.Context) error { return store.End(ctx, "a") })
}
