package state_test

import (
	"testing"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/dual/pgfleet"
	"github.com/stranglerfig/migrator/dual/telemetry"
	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/record"
)

// BenchmarkFleet is the round trips that every instance makes again and again.
func BenchmarkFleet(b *testing.B) {
	s := openAt(b, testenv.PostgresURL(b))
	f := pgfleet.New(s.Pool(), testMigration, pgfleet.Options{})
	g, err := f.Join(b.Context(), dual.Identity{Instance: "a"})
	must(b, err)
	b.Run("renew", func(b *testing.B) {
		for b.Loop() {
			if _, err := f.Renew(b.Context(), g.Lease, 1); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("observe", func(b *testing.B) {
		for n := int64(1); b.Loop(); n++ {
			must(b, f.Observe(b.Context(), g.Lease, []telemetry.Window{window("x", n, 0, 1)}))
		}
	})
	b.Run("journal", func(b *testing.B) {
		for b.Loop() {
			_, err := f.Journal(b.Context(), []dual.JournalEntry{{Key: "1", Version: record.MakeVersion(0, 0, 1), Reason: "down"}})
			must(b, err)
		}
	})
}
