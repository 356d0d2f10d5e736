package reconcile_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/internal/backfill"
	"github.com/stranglerfig/migrator/internal/test/pairtest"
	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/reconcile"
	"github.com/stranglerfig/migrator/record"
)

// Many tests wait until a write can land no more.
func TestMain(m *testing.M) { testenv.Main(testenv.Parallel(m, 4)) }

// notAfter is short in tests: every difference takes that long to confirm.
const notAfter = 400 * time.Millisecond

func reconciler(p *pairtest.Pair) (*reconcile.Reconciler, *pairtest.Reconciles) {
	ledger := &pairtest.Reconciles{}
	return &reconcile.Reconciler{
		Legacy: p.Legacy, Locker: p.Legacy, Target: p.Target, Ledger: ledger, Compare: p.Compare,
		Options: reconcile.Options{ChunkRows: 1000, Pause: 50 * time.Millisecond, NotAfter: notAfter, Expires: p.Config.ExpiryColumn()},
	}, ledger
}

func runBackfill(t testing.TB, p *pairtest.Pair) backfill.Progress {
	t.Helper()
	got, err := (&backfill.Backfill{
		Legacy: p.Legacy, Barrier: p.Legacy, Locker: p.Legacy, Target: p.Target, NotAfter: notAfter,
		Ledger: &pairtest.Backfills{Path: filepath.Join(t.TempDir(), "progress")},
	}).Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return got
}

var (
	full     = reconcile.RunOptions{Full: true, TwoWay: true}
	repaired = reconcile.RunOptions{Full: true, TwoWay: true, Repair: true}
)

func run(t *testing.T, rc *reconcile.Reconciler, o reconcile.RunOptions) (reconcile.Run, map[record.Key]reconcile.Finding) {
	t.Helper()
	r, found, err := rc.Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if r.Status != reconcile.Done || r.Finished.IsZero() {
		t.Fatalf("it ended %+v", r)
	}
	byKey := map[record.Key]reconcile.Finding{}
	for _, f := range found {
		byKey[f.Key] = f
	}
	return r, byKey
}

func wantClean(t *testing.T, rc *reconcile.Reconciler) {
	t.Helper()
	if r, found := run(t, rc, full); r.Differences != 0 {
		t.Fatalf("%d differences: %v %+v", r.Differences, r.Classes, found)
	}
}
