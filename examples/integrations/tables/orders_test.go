package tables

import (
	"context"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/stranglerfig/migrator/dual/dualtest"
	"github.com/stranglerfig/migrator/examples/integrations/internal/labtest"
	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/phases"
)

func TestMain(m *testing.M) { testenv.Main(m) }

func open(t *testing.T) (*dualtest.Lab, *Orders) {
	t.Helper()
	lab, m := labtest.Open(t, "orders", Schema+`INSERT INTO orders VALUES (1, 'paid'), (2, 'paid'), (3, 'open')`)
	db, err := pgxpool.New(t.Context(), m.Legacy.URL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	orders, err := Open(t.Context(), db, m, lab.Options())
	if err != nil {
		t.Fatal(err)
	}
	lab.Serve(orders)
	return lab, orders
}

// audit is whether the audit has an event, and whether that is done.
func (s *Orders) audit(t *testing.T, event string) string {
	t.Helper()
	var done bool
	switch err := s.db.QueryRow(t.Context(), `SELECT done FROM audit WHERE event = $1`, event).Scan(&done); {
	case errors.Is(err, pgx.ErrNoRows):
		return "none"
	case err != nil:
		t.Fatal(err)
		return ""
	case done:
		return "done"
	default:
		return "intent"
	}
}

func (s *Orders) mustBe(t *testing.T, event, want string) {
	t.Helper()
	if got := s.audit(t, event); got != want {
		t.Errorf("the audit of %s: %s, want %s", event, got, want)
	}
}

func TestWrites(t *testing.T) {
	t.Parallel()
	lab, orders := open(t)
	lab.Check("ship", func(ctx context.Context) error { return orders.Ship(ctx, 1, "a") })
	lab.Check("ship again by the same event", func(ctx context.Context) error { return orders.Ship(ctx, 1, "a") })
	lab.Check("ship again by another", func(ctx context.Context) error { return orders.Ship(ctx, 1, "b") })
	lab.Check("not paid", func(ctx context.Context) error { return orders.Ship(ctx, 3, "c") })
	lab.Check("none", func(ctx context.Context) error { return orders.Ship(ctx, 4, "d") })
}

// TestTheAuditFollowsTheOrder in both forms of the write, also where a request ends halfway.
func TestTheAuditFollowsTheOrder(t *testing.T) {
	t.Parallel()
	for _, phase := range []phases.Phase{phases.Grace, phases.Complete} {
		t.Run(string(phase), func(t *testing.T) {
			t.Parallel()
			lab, orders := open(t)
			// A Check leaves the target with what legacy has.
			lab.Check("ship", func(ctx context.Context) error { return orders.Ship(ctx, 1, "whole") })
			if err := lab.Fleet.Move(t.Context(), phase, phases.All); err != nil {
				t.Fatal(err)
			}
			orders.mustBe(t, "whole", "done")
			if err := orders.Ship(t.Context(), 1, "late"); !errors.Is(err, ErrNotPaid) {
				t.Fatal(err)
			}
			orders.mustBe(t, "late", "intent")

			if _, err := orders.db.Exec(t.Context(), intend, "halfway", 2); err != nil {
				t.Fatal(err)
			}
			if err := orders.ship(t.Context(), 2, "halfway"); err != nil {
				t.Fatal(err)
			}
			if want := map[phases.Phase]string{phases.Grace: "done", phases.Complete: "intent"}[phase]; orders.audit(t, "halfway") != want {
				t.Errorf("after the write alone the audit must be %s in %s", want, phase)
			}
			if err := orders.Resolve(t.Context(), 0); err != nil {
				t.Fatal(err)
			}
			orders.mustBe(t, "halfway", "done")
			orders.mustBe(t, "late", "none")
			orders.mustBe(t, "whole", "done")
		})
	}
}
