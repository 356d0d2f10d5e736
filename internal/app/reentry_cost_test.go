package app

import (
	"testing"
	"time"

	"github.com/stranglerfig/migrator/internal/backfill"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/store"
)

// TestReentryCost is of the newest number of rows, at the rate that is allowed, or as slow as the last backfill was.
func TestReentryCost(t *testing.T) {
	t.Parallel()
	began := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	after := func(s time.Duration) time.Time { return began.Add(s * time.Second) }
	done := backfill.Progress{Rows: 1000, Began: began, Opens: after(11), Finished: after(131), Held: 20} // 10 rows/s
	full := &phases.ReconcileResult{Checked: 4000, Began: after(200), Finished: after(220)}
	for _, c := range []struct {
		name string
		rate int
		b    backfill.Progress
		full *phases.ReconcileResult
		want string
	}{
		{"as fast as before", 0, done, nil, "a new slot copies about 1,000 rows in about 1m51s, at 10 rows/s (the last backfill), then a full reconcile"},
		{"at the limit", 5, done, nil, "a new slot copies about 1,000 rows in about 3m31s, at 5 rows/s (backfill.rate), then a full reconcile"},
		{"slower than the limit", 5000, done, nil, "a new slot copies about 1,000 rows in about 1m51s, at 10 rows/s (the last backfill), then a full reconcile"},
		{"there are more since", 0, done, full, "a new slot copies about 4,000 rows in about 6m51s, at 10 rows/s (the last backfill), then a full reconcile of about 20s"},
		{"the first one is not finished", 0, backfill.Progress{Rows: 7, Began: began, Chunks: []store.Chunk{{Rows: 300}, {Rows: 200}}}, nil, "a new slot copies about 500 rows, then a full reconcile"},
	} {
		if got := reentryCost(c.rate, c.b, c.full).Text(); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}
