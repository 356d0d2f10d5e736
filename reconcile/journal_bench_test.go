package reconcile_test

import (
	"testing"
	"time"

	"github.com/stranglerfig/migrator/internal/test/pairtest"
)

// BenchmarkJournal drains a journal of every key, and gives the rate beside that of a backfill of the same
// records, both without the waits that go by not_after.
func BenchmarkJournal(b *testing.B) {
	const keys = 50_000
	for b.Loop() {
		p := pairtest.New(b, pairtest.Options{})
		p.FillSimple(b, 1, keys)
		began := time.Now()
		runBackfill(b, p)
		filled := time.Since(began) - notAfter - 250*time.Millisecond
		rc, _ := reconciler(p)
		ledger, sql := stateReconciles(b)
		rc.Ledger, rc.Jobs = ledger, ledger
		sql(`INSERT INTO migrator.journal (migration, key, version, changes, reason, first_at, last_at)
			SELECT 'move', convert_to(i::text, 'UTF8'), repeat('0', 32), 1, 'timeout', now(), now() FROM generate_series(1, $1) i`, keys)
		began = time.Now()
		if n, err := rc.RepairJournal(b.Context()); n != keys || err != nil {
			b.Fatal(n, err)
		}
		drained := time.Since(began)
		b.ReportMetric(keys/drained.Seconds(), "keys/s")
		b.ReportMetric(100*filled.Seconds()/drained.Seconds(), "%-of-backfill")
	}
}
