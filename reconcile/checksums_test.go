package reconcile_test

import (
	"context"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/stranglerfig/migrator/internal/backfill"
	"github.com/stranglerfig/migrator/internal/test/pairtest"
	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/reconcile"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
	"github.com/stranglerfig/migrator/store/postgres"
)

// tables are two tables in PostgreSQL with a migration between them.
type tables struct {
	*testing.T
	legacySQL, targetSQL *pgxpool.Pool
	legacy               *postgres.Legacy
	target               *postgres.Target
}

const widerDDL = `CREATE TABLE items (id bigint PRIMARY KEY, name text, amount numeric(12,2), big bigint, ratio float8, at timestamptz, doc jsonb, tags text[], code char(6), day date)`

func newTables(t *testing.T, rows int) *tables {
	t.Helper()
	p := &tables{T: t}
	m := &migration.Config{
		Name:   "move",
		Legacy: migration.Legacy{Part: &postgres.LegacyConfig{Table: "items"}},
		Target: migration.Target{Part: &postgres.TargetConfig{Table: "items"}},
	}
	open := func() (url string, pool *pgxpool.Pool) {
		url = testenv.PostgresURL(t)
		pool, err := pgxpool.New(t.Context(), url)
		p.ok(err)
		t.Cleanup(pool.Close)
		p.exec(pool, widerDDL)
		return url, pool
	}
	legacyURL, targetURL := "", ""
	legacyURL, p.legacySQL = open()
	targetURL, p.targetSQL = open()
	var err error
	p.legacy, err = postgres.OpenLegacy(t.Context(), m, legacyURL)
	p.ok(err)
	t.Cleanup(p.legacy.Close)
	p.ok(p.legacy.Install(t.Context()))
	p.target, err = postgres.OpenTarget(t.Context(), m, targetURL, p.legacy.Schema())
	p.ok(err)
	t.Cleanup(func() { _ = p.target.Close() })
	p.ok(p.target.Prepare(t.Context()))
	p.exec(p.legacySQL, `INSERT INTO items SELECT i, 'name ' || i, i * 1.25, i * 4294967296, i / 7.0, timestamptz '2024-01-01Z' + i * interval '1 hour',
		jsonb_build_object('n', i, 'list', jsonb_build_array(i, jsonb_build_array(1, 2))), ARRAY['a' || i, NULL], 'c' || i % 100, date '2024-01-01' + i
		FROM generate_series(1, $1::int) i`, rows)
	_, err = (&backfill.Backfill{
		Legacy: p.legacy, Barrier: p.legacy, Locker: p.legacy, Target: p.target, NotAfter: notAfter,
		Ledger: &pairtest.Backfills{Path: filepath.Join(t.TempDir(), "progress")},
	}).Run(t.Context())
	p.ok(err)
	return p
}

func (p *tables) ok(err error) {
	p.Helper()
	if err != nil {
		p.Fatal(err)
	}
}

func (p *tables) exec(pool *pgxpool.Pool, sql string, args ...any) {
	p.Helper()
	if _, err := pool.Exec(p.Context(), sql, args...); err != nil {
		p.Fatalf("%s: %v", sql, err)
	}
}

// watched records how the target was read.
type watched struct {
	store.TargetRecords
	got int
}

func (w *watched) Get(ctx context.Context, keys []record.Key) ([]store.Entry, error) {
	w.got += len(keys)
	return w.TargetRecords.Get(ctx, keys)
}

type watchedSums struct {
	watched
	store.Checksummer
	store.VersionLister
}

// reconciler has one worker, so that watched needs no lock. The slow one does not
// know that the target can sum.
func (p *tables) reconciler(slow bool, rules ...record.Rule) (*reconcile.Reconciler, *watched) {
	p.Helper()
	compare, err := record.NewComparer(p.legacy.Schema(), rules)
	p.ok(err)
	fast := &watchedSums{watched{TargetRecords: p.target}, p.target, p.target}
	rc := &reconcile.Reconciler{
		Legacy: p.legacy, Locker: p.legacy, Target: fast, Ledger: &pairtest.Reconciles{}, Compare: compare,
		Options: reconcile.Options{ChunkRows: 3000, Workers: 1, Pause: 50 * time.Millisecond, NotAfter: notAfter},
	}
	if slow {
		rc.Target = &fast.watched
	}
	return rc, &fast.watched
}

// damages are changes behind the migration's back, each of one record: of legacy,
// or of the target.
var damages = []struct{ legacy, target string }{
	{target: `UPDATE items SET name = NULL WHERE id = $1`},
	{target: `UPDATE items SET name = '' WHERE id = $1`},
	{legacy: `UPDATE items SET name = name || ' ' WHERE id = $1`},
	{target: `UPDATE items SET amount = -amount WHERE id = $1`},
	{legacy: `UPDATE items SET amount = 'NaN' WHERE id = $1`},
	{target: `UPDATE items SET big = big + 1 WHERE id = $1`},
	{target: `UPDATE items SET big = big >> 32 WHERE id = $1`},
	{target: `UPDATE items SET ratio = 0 WHERE id = $1`},
	{legacy: `UPDATE items SET ratio = NULL WHERE id = $1`},
	{target: `UPDATE items SET at = at + interval '1 microsecond' WHERE id = $1`},
	{target: `UPDATE items SET doc = jsonb_set(doc, '{list}', jsonb_build_array(id, 1, 2)) WHERE id = $1`},
	{legacy: `UPDATE items SET doc = doc - 'n' WHERE id = $1`},
	{target: `UPDATE items SET tags = ARRAY[tags[1], 'NULL'] WHERE id = $1`},
	{target: `UPDATE items SET code = '' WHERE id = $1`},
	{legacy: `UPDATE items SET day = 'infinity' WHERE id = $1`},
	{target: `DELETE FROM items WHERE id = $1`},
	{legacy: `DELETE FROM items WHERE id = $1`},
	{target: `DELETE FROM migrator_target.move WHERE key = '$1'`},
	{target: `UPDATE migrator_target.move SET deleted = true WHERE key = '$1'`},
	{target: `UPDATE migrator_target.move SET version = '0000000fffffffffffffffffffffffff' WHERE key = '$1'`},
	{target: `UPDATE migrator_target.move SET version = left(version, 8) || '7fffffff' || right(version, 16) WHERE key = '$1'`},
	{target: `INSERT INTO items (id, name) VALUES (-$1, 'unowned')`},
	{target: `INSERT INTO items (id, name) VALUES ($1 + 10000000000, 'unowned')`},
	// Two rows that exchange what they have.
	{target: `UPDATE items SET name = CASE id WHEN $1 THEN 'name ' || $1 + 1 ELSE 'name $1' END WHERE id IN ($1, $1 + 1)`},
	// What is the same, however it is written.
	{legacy: `UPDATE items SET doc = jsonb_set(doc, '{n}', to_jsonb('$1.00'::numeric)) WHERE id = $1`},
	{legacy: `UPDATE items SET name = name WHERE id = $1`},
}

// TestChecksumsFindWhatRowComparisonFinds: the same keys, the same classes, the same fields.
func TestChecksumsFindWhatRowComparisonFinds(t *testing.T) {
	t.Parallel()
	const rows = 8_000
	p := newTables(t, rows)
	rc, read := p.reconciler(false)
	if r, found := run(t, rc, full); r.Differences != 0 || r.Checked != rows || r.Scanned != rows || r.Suspects != 0 || read.got > 2000 {
		t.Fatalf("%+v %v; %d records were read one by one", r, found, read.got)
	}
	step := rows / (2 * len(damages))
	for i, d := range damages {
		for n := range 2 {
			id := (2*i+n)*step + 1 + (i*7+n*13)%(step-2)
			if d.legacy != "" {
				p.exec(p.legacySQL, strings.ReplaceAll(d.legacy, "$1", strconv.Itoa(id)))
			}
			if d.target != "" {
				p.exec(p.targetSQL, strings.ReplaceAll(d.target, "$1", strconv.Itoa(id)))
			}
		}
	}
	for _, o := range []reconcile.RunOptions{full, {Full: true}} {
		slow, _ := p.reconciler(true)
		_, want := run(t, slow, o)
		rc, read := p.reconciler(false)
		r, got := run(t, rc, o)
		for k, f := range want {
			g, ok := got[k]
			if !ok || g.Class != f.Class || !slices.Equal(g.Paths, f.Paths) {
				t.Errorf("key %s: the slow way found %s %v, by sums %q %v", k, f.Class, f.Paths, g.Class, g.Paths)
			}
		}
		for k := range got {
			if _, ok := want[k]; !ok {
				t.Errorf("key %s was found by sums alone: %+v", k, got[k])
			}
		}
		// What both found is what was done, but for a table's own extras.
		if least := 2 * (len(damages) - 5); len(want) < least || read.got > 4000 {
			t.Errorf("%d were found, want %d at least; %d records were read one by one", len(want), least, read.got)
		}
		if r.Checked < rows-2 || r.Checked > rows {
			t.Errorf("%d of %d were checked", r.Checked, rows)
		}
	}
	rc, _ = p.reconciler(false)
	rc.MaxRepairs = 10_000
	const foreign = 4 // rows of the target's that legacy lacks, and no version: another program's
	if r, _ := run(t, rc, repaired); r.Repaired != r.Differences-foreign {
		t.Errorf("%d of %d were repaired", r.Repaired, r.Differences)
	}
	rc, _ = p.reconciler(false)
	r, found := run(t, rc, full)
	for k, f := range found {
		if f.Class != reconcile.ForeignClass {
			t.Errorf("after the repair, key %s: %+v", k, f)
		}
	}
	if r.Differences != foreign {
		t.Errorf("after the repair there are %d differences, want %d", r.Differences, foreign)
	}
}

// TestChecksumsAreNotUsedWithRules: where values may differ, checksums prove nothing.
func TestChecksumsAreNotUsedWithRules(t *testing.T) {
	t.Parallel()
	p := newTables(t, 2000)
	p.exec(p.targetSQL, "UPDATE items SET amount = amount + 0.01, at = date_trunc('second', at), name = 'another'")
	rc, read := p.reconciler(false, record.Rule{Path: "/amount", Tolerance: "0.01"}, record.Rule{Path: "/name", Ignore: "renamed"})
	if r, found := run(t, rc, full); r.Differences != 0 || r.Checked != 2000 || read.got < 2000 {
		t.Fatalf("%+v %v, %d read", r, found, read.got)
	}
	// A field that is ignored is not hashed.
	p.exec(p.targetSQL, "UPDATE items SET amount = amount - 0.01")
	rc, read = p.reconciler(false, record.Rule{Path: "/name", Ignore: "renamed"})
	if r, found := run(t, rc, full); r.Differences != 0 || r.Checked != 2000 || read.got > 200 {
		t.Fatalf("%+v %v, %d read", r, found, read.got)
	}
}
