package reconcile_test

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/internal/test/pairtest"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/reconcile"
)

// What sampled runs read adds up, on a table that grows and is rewritten, and a
// sample of a tenth reads about a tenth of the blocks.
func TestCoverageAddsUp(t *testing.T) {
	t.Parallel()
	p := pairtest.New(t, pairtest.Options{})
	p.FillSimple(t, 1, 20_000)
	p.Exec(t, "ANALYZE items")
	runBackfill(t, p)
	rc, _ := reconciler(p)
	ledger, sql := stateReconciles(t)
	rc.Ledger = ledger
	const window = 30 * 24 * time.Hour
	const slices = 10
	sample := func() (reconcile.Run, reconcile.Coverage) {
		t.Helper()
		r, _ := run(t, rc, reconcile.RunOptions{Sample: phases.All / slices})
		kept, err := ledger.Run(t.Context(), r.ID)
		if err != nil {
			t.Fatal(err)
		}
		c, err := ledger.Coverage(t.Context(), kept, window)
		if err != nil {
			t.Fatal(err)
		}
		if kept.Places != r.Places || r.Places < 5 || !strings.Contains(reconcile.Claim(kept), "clustered") {
			t.Errorf("%+v claims %q", kept, reconcile.Claim(kept))
		}
		return kept, c
	}
	blocks := func() (n int64) {
		if err := p.SQL.QueryRow(t.Context(), "SELECT pg_relation_size('items') / 8192").Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	near := func(what string, got, want float64) {
		t.Helper()
		if math.Abs(got-want) > 0.03 {
			t.Errorf("%s: %.3f, want about %.3f", what, got, want)
		}
	}
	var checked int64
	for i := range slices {
		r, c := sample()
		checked += r.Checked
		near("a tenth", float64(r.Checked)/20_000, 0.1)
		near("so far", c.Checked, float64(i+1)/slices)
		if c.Clean != c.Checked || c.Blocks != blocks() || c.Runs != int64(i+1) {
			t.Errorf("run %d of %d blocks: %+v", i, blocks(), c)
		}
	}
	if _, err := ledger.Coverage(t.Context(), reconcile.Run{}, window); err != nil || checked != 20_000 {
		t.Errorf("%d checked, %v", checked, err)
	}

	p.FillSimple(t, 20_001, 40_000)
	p.Exec(t, "ANALYZE items")
	runBackfill(t, p)
	_, c := sample()
	near("after it has doubled", c.Checked, 0.5+0.05)

	if err := p.Redis.Del(t.Context(), "item:1").Err(); err != nil { // block 0: of slice 0, which was just read
		t.Fatal(err)
	}
	r, _ := run(t, rc, full)
	if r.Differences != 1 || r.Places != 0 {
		t.Fatalf("%+v", r)
	}
	_, c = sample()
	near("of all", c.Checked, 1)
	near("clean since a difference was found", c.Clean, 0.1)
	p.Exec(t, "VACUUM FULL items")
	_, c = sample()
	near("rewritten", c.Checked, 0.1)
	sql("UPDATE migrator.reconcile_runs SET finished_at = finished_at - interval '31 days'")
	_, c = sample()
	near("a month later", c.Checked, 0.1)
}
