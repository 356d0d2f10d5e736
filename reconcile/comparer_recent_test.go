package reconcile_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/test/pairtest"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/reconcile"
)

// A writer that went wrong today is met today, though a slice of the whole table
// holds few of its records.
func TestYoungRecordsAreSampledMoreDensely(t *testing.T) {
	t.Parallel()
	p := pairtest.New(t, pairtest.Options{DDL: `CREATE TABLE items (id bigint PRIMARY KEY, name text, amount numeric, expires_at timestamptz, "Changed" timestamp)`})
	p.Exec(t, `INSERT INTO items SELECT i, 'name ' || i, i, NULL,
		now() AT TIME ZONE 'UTC' - CASE WHEN i % 10 = 0 THEN interval '1 hour' ELSE interval '3 days' END FROM generate_series(1, 10000) i`)
	p.Exec(t, "ANALYZE items")
	runBackfill(t, p)
	rc, _ := reconciler(p)
	rc.Recent = reconcile.Recent{Column: "nosuch", Within: 24 * time.Hour, Sample: phases.All / 2}
	sampled := reconcile.RunOptions{Sample: phases.All / 100}
	refused := func(says string) {
		t.Helper()
		_, _, err := rc.Run(t.Context(), sampled)
		if h, _ := hint.Of(err); err == nil || !strings.Contains(err.Error()+"; "+h.Text, says) {
			t.Errorf("%v, %v, want %q", err, h, says)
		}
	}
	refused("reconcile.recent.column")
	rc.Recent.Column = "name"
	refused("want timestamp or timestamptz")
	rc.Recent.Column = "Changed"
	refused(`CREATE INDEX CONCURRENTLY ON "public"."items" ("Changed")`)
	p.Exec(t, `CREATE INDEX ON items ("Changed")`)

	r, _ := run(t, rc, sampled)
	if r.Recent < 400 || r.Recent > 600 || r.RecentDifferent != 0 || r.Checked > 400 {
		t.Fatalf("of a thousand young ones half: %+v", r)
	}
	rc.Recent.Sample = phases.All
	damage(t, p, 10, 500) // fifty of the young
	r, found := run(t, rc, sampled)
	if r.Recent != 1000 || r.Differences != 50 || len(found) != 50 || r.RecentDifferent != 50 || r.RecentOnly == 0 || r.RecentOnly > 50 || !strings.Contains(reconcile.Claim(r), "of young records") {
		t.Fatalf("%+v claims %q", r, reconcile.Claim(r))
	}
	if r, _ := run(t, rc, full); r.Recent != 0 || r.Differences != 50 {
		t.Errorf("a full run needs no such sample: %+v", r)
	}
	sampled.Repair = true
	rc.MaxDifference = phases.Whole
	if r, _ := run(t, rc, sampled); r.Repaired != 50 {
		t.Errorf("%+v", r)
	}
	wantClean(t, rc)
}
