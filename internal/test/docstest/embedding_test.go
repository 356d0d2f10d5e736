package docstest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/examples/embedding"
	"github.com/stranglerfig/migrator/internal/openstore"
	"github.com/stranglerfig/migrator/internal/test/clitest"
	"github.com/stranglerfig/migrator/record"
)

// TestEmbeddingExample takes the program that docs/embedding.md quotes through
// every phase, as roles with the documented privileges alone.
func TestEmbeddingExample(t *testing.T) {
	t.Parallel()
	o := clitest.New(t, "customers", "  table: customers\n", "  key: customer:{id}\n", `
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
	o.SQL(o.Legacy, embedding.Schema+`; INSERT INTO customers SELECT i, i || '@example.org', NULL, 100 FROM generate_series(1, 50) i`)
	o.Does("init", "apply")
	role := "embedding_app_" + fmt.Sprint(time.Now().UnixNano())
	o.SQL(o.Legacy, "CREATE ROLE "+role+" LOGIN PASSWORD 'pw'; GRANT SELECT, INSERT, UPDATE, DELETE ON customers TO "+role)
	t.Cleanup(func() {
		o.SQL(o.State, "DROP OWNED BY "+role)
		o.SQL(o.Legacy, "DROP OWNED BY "+role+"; DROP ROLE "+role)
	})
	if err := embedding.Grant(t.Context(), o.State, role); err != nil {
		t.Fatal(err)
	}
	m, err := openstore.Load(o.Path("migration.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	m.Legacy.URL = clitest.AsRole(o.Legacy, role, "pw")
	customers, err := embedding.Open(t.Context(), m, clitest.AsRole(o.State, role, "pw"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	err = customers.Serve(t.Context(), func(ctx context.Context) error {
		for n, step := range [][]string{
			nil,
			{"phase advance"},
			{"backfill run", "phase advance"},
			{"reconcile run --full", "phase advance"},
			{"phase advance"},
			{"reconcile run --full", "phase advance"},
			{"reconcile run --full", "phase advance"},
			{"phase rollback --to grace"},
			{"reconcile run --full", "phase advance"},
			{"phase advance"},
		} {
			o.Does(step...)
			if err := useCustomers(ctx, customers, int64(5*n+1)); err != nil {
				return fmt.Errorf("step %d, after %v: %w", n, step, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := customers.Get(t.Context(), 1); !errors.Is(err, dual.ErrLeft) {
		t.Errorf("a read after the end: %v", err)
	}
	if got := embedding.OutcomeOf(customers.Remove(t.Context(), 1)); got != embedding.NotSaved {
		t.Errorf("a write after the end is %s", got)
	}
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
