package docstest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/dual/kit"
	"github.com/stranglerfig/migrator/examples/embedding"
	"github.com/stranglerfig/migrator/examples/sessions"
	"github.com/stranglerfig/migrator/internal/openstore"
	"github.com/stranglerfig/migrator/internal/test/clitest"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/record"
)

// embedded is an application that docs/embedding.md quotes.
type embedded struct {
	serve func(ctx context.Context, serve func(context.Context) error) error
	use   func(ctx context.Context, n int) error // each kind of operation once, on other records for each n
	write func(ctx context.Context) error
}

var embeddedApps = []struct {
	name, table, target, setUp string
	open                       func(*testing.T, *migration.Config, kit.Options) (embedded, error)
}{
	{
		"pgx", "customers", "  key: customer:{id}\n",
		embedding.Schema + `; INSERT INTO customers SELECT i, i || '@example.org', NULL, 100 FROM generate_series(1, 50) i`,
		func(t *testing.T, m *migration.Config, o kit.Options) (app embedded, err error) {
			db, err := pgxpool.New(t.Context(), m.Legacy.URL)
			if err != nil {
				return app, err
			}
			t.Cleanup(db.Close)
			c, err := embedding.Open(t.Context(), db, m, o)
			return embedded{
				c.Serve,
				func(ctx context.Context, n int) error { return useCustomers(ctx, c, int64(5*n+1)) },
				func(ctx context.Context) error { return c.Remove(ctx, 1) },
			}, err
		},
	},
	{
		"libpq", "sessions", "  key: session:{token}\n",
		sessions.Schema + `; INSERT INTO sessions SELECT 's' || i, i, '2030-01-01Z' FROM generate_series(1, 50) i`,
		func(t *testing.T, m *migration.Config, o kit.Options) (app embedded, err error) {
			db, err := sql.Open("postgres", m.Legacy.URL)
			if err != nil {
				return app, err
			}
			t.Cleanup(func() { _ = db.Close() })
			s, err := sessions.Open(t.Context(), db, m, o)
			return embedded{
				s.Serve,
				func(ctx context.Context, n int) error { return useSessions(ctx, s, 3*n+1) },
				func(ctx context.Context) error { return s.End(ctx, "s1") },
			}, err
		},
	},
}

// TestEmbeddingExamples takes the programs that docs/embedding.md quotes through every phase,
// as roles with the documented privileges alone.
func TestEmbeddingExamples(t *testing.T) {
	t.Parallel()
	for _, c := range embeddedApps {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			o := clitest.New(t, c.table, "  table: "+c.table+"\n", c.target, `
phases:
  shadow_write: {for: 0s}
  dual_read: {steps: [100], over: 0s}
  cutover: {steps: [50, 100], over: 0s}
  grace: {for: 0s}
  retain: {for: 0s}
  approval: {for: []}
gates: {off: a test without traffic}
writing: {not_after: 1s}
fleet: {lease: 3s, renew: 1s}
`)
			o.SQL(o.Legacy, c.setUp)
			role := "embedding_" + c.name + fmt.Sprint(time.Now().UnixNano())
			o.SQL(o.Legacy, "CREATE ROLE "+role+" LOGIN PASSWORD 'pw'; GRANT SELECT, INSERT, UPDATE, DELETE ON "+c.table+" TO "+role)
			o.Does("init --grant-application "+role, "apply")
			t.Cleanup(func() {
				o.SQL(o.State, "DROP OWNED BY "+role)
				o.SQL(o.Legacy, "DROP OWNED BY "+role+"; DROP ROLE "+role)
			})
			m, err := openstore.Load(o.Path("migration.yaml"))
			if err != nil {
				t.Fatal(err)
			}
			m.Legacy.URL = clitest.AsRole(o.Legacy, role, "pw")
			app, err := c.open(t, m, kit.Options{StateURL: clitest.AsRole(o.State, role, "pw")})
			if err != nil {
				t.Fatal(err)
			}
			err = app.serve(t.Context(), func(ctx context.Context) error {
				for n, step := range [][]string{
					nil,
					{"phase advance"},
					{"backfill run", "phase advance"},
					{"reconcile run --full", "phase advance"},
					{"phase advance"},
					{"reconcile run --full", "phase advance"},
					{"reconcile run --full", "phase advance"},
					{"phase rollback --to grace --yes"},
					{"reconcile run --full", "phase advance"},
					{"phase advance"},
				} {
					o.Does(step...)
					if err := app.use(ctx, n); err != nil {
						return fmt.Errorf("step %d, after %v: %w", n, step, err)
					}
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			if got := embedding.OutcomeOf(app.write(t.Context())); got != embedding.NotSaved {
				t.Errorf("a write after the end is %s", got)
			}
		})
	}
}

// useSessions runs each kind of operation once, on the sessions from a number on.
func useSessions(ctx context.Context, s *sessions.Store, n int) error {
	token := func(n int) string { return fmt.Sprint("s", n) }
	began := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, step := range []struct {
		what      string
		err, want error
	}{
		{"extend", s.Extend(ctx, token(n), time.Hour), nil},
		{"extend no session", s.Extend(ctx, token(n+1000), time.Hour), sessions.ErrNoSession},
		{"save", s.Save(ctx, sessions.Session{Token: token(n + 2000), UserID: 7, Expires: began}), nil},
		{"replace", s.Save(ctx, sessions.Session{Token: token(n + 1), UserID: 8, Expires: began}), nil},
		{"end", s.End(ctx, token(n+2)), nil},
		{"end what is not there", s.End(ctx, token(n+2)), nil},
	} {
		if !errors.Is(step.err, step.want) {
			return fmt.Errorf("%s: %s, want %s", step.what, fmt.Sprint(step.err), fmt.Sprint(step.want))
		}
	}
	for at, want := range map[int]*sessions.Session{
		n: {UserID: int64(n), Expires: began.Add(time.Hour)}, n + 1: {UserID: 8, Expires: began}, n + 2: nil, n + 2000: {UserID: 7, Expires: began},
	} {
		got, found, err := s.Get(ctx, token(at))
		if err != nil || found != (want != nil) || found && (got.UserID != want.UserID || !got.Expires.Equal(want.Expires)) {
			return fmt.Errorf("session %d: %+v, %v, %s; want %+v", at, got, found, fmt.Sprint(err), want)
		}
	}
	return nil
}

// useCustomers runs each kind of operation once, on the customers from a number on.
func useCustomers(ctx context.Context, c *embedding.Customers, id int64) error {
	name := "Zoë"
	for _, step := range []struct {
		what string
		err  error
		want error
	}{
		{"add", c.AddPoints(ctx, id, 5), nil},
		{"add to no customer", c.AddPoints(ctx, id+1000, 5), embedding.ErrNoCustomer},
		{"transfer", c.Transfer(ctx, id, id+1, 30), nil},
		{"transfer too much", c.Transfer(ctx, id, id+1, 3000), embedding.ErrTooFew},
		{"replace", c.Replace(ctx, embedding.Customer{ID: id + 2, Email: "z@example.org", Name: &name, Points: 7}), nil},
		{"make", c.Replace(ctx, embedding.Customer{ID: id + 2000, Email: "new@example.org"}), nil},
		{"remove", c.Remove(ctx, id+3), nil},
		{"remove what is not there", c.Remove(ctx, id+3), nil},
		{"renumber", c.Renumber(ctx, id+4, id+3000), nil},
		{"renumber no customer", c.Renumber(ctx, id+4, id+3001), embedding.ErrNoCustomer},
	} {
		if !errors.Is(step.err, step.want) {
			return fmt.Errorf("%s: %s, want %s", step.what, fmt.Sprint(step.err), fmt.Sprint(step.want))
		}
	}
	for at, want := range map[int64]int{id: 75, id + 1: 130, id + 2: 7, id + 2000: 0, id + 3: -1, id + 4: -1, id + 3000: 100} {
		got, found, err := c.Get(ctx, at)
		if err != nil || found != (want >= 0) || found && got.Points != want {
			return fmt.Errorf("customer %d: %+v, %v, %s; want %d points", at, got, found, fmt.Sprint(err), want)
		}
	}
	return nil
}

// TestOutcomes: each error has the outcome that docs/embedding.md documents.
func TestOutcomes(t *testing.T) {
	t.Parallel()
	cause := errors.New("boom")
	for _, c := range []struct {
		err  error
		want embedding.Outcome
	}{
		{nil, embedding.Saved},
		{&dual.TargetError{Legacy: true, Cause: cause}, embedding.Saved},
		{&dual.TargetError{Unknown: true, Cause: cause}, embedding.Unsure},
		{&dual.TargetError{Done: []record.Key{"1"}, Cause: embedding.ErrTooFew}, embedding.Unsure},
		{&dual.TargetError{Cause: cause}, embedding.NotSaved},
		{fmt.Errorf("save: %w", &dual.WaitError{Cause: cause}), embedding.NotSaved},
		{dual.ErrLeft, embedding.NotSaved},
		{embedding.ErrTooFew, embedding.Refused},
		{context.DeadlineExceeded, embedding.Unsure},
	} {
		if got := embedding.OutcomeOf(c.err); got != c.want {
			t.Errorf("%v: %s, want %s", c.err, got, c.want)
		}
	}
}
