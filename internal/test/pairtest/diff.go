package pairtest

import (
	"fmt"
	"testing"

	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// Diff compares both stores, without concurrent writes, in the simplest way, and returns the
// differences as "key: how".
func (p *Pair) Diff(t testing.TB) []string {
	t.Helper()
	ctx := t.Context()
	now, err := p.Records().Now(ctx)
	if err != nil {
		t.Fatal(err)
	}
	expires := -1
	if column := p.Config.ExpiryColumn(); column != "" {
		expires = p.Legacy.Schema().Index(column)
	}
	rows := map[record.Key]record.Record{}
	chunks, err := p.Legacy.Chunks(ctx, 100_000)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range chunks {
		if err := p.Legacy.Scan(ctx, c, func(r store.Row) error {
			if expires >= 0 && r.Record[expires].State == record.Present && r.Record[expires].Text < now.UTC().Format("2006-01-02T15:04:05.999999Z") {
				return nil
			}
			rows[r.Key] = r.Record.Clone()
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	var diffs []string
	seen := map[record.Key]bool{}
	if err := p.Records().Scan(ctx, func(entries []store.Entry) error {
		for _, e := range entries {
			row, found := rows[e.Key]
			switch {
			case e.Presence == store.Tombstone || seen[e.Key]:
				continue
			case e.Presence != store.Live:
				diffs = append(diffs, fmt.Sprintf("%q (%s): %s", e.Key, e.RawKey, e.Presence))
			case !found:
				diffs = append(diffs, fmt.Sprintf("%q: extra", e.Key))
			case !p.Compare.Equal(row, e.Record):
				diffs = append(diffs, fmt.Sprintf("%q: legacy %v, target %v", e.Key, row, e.Record))
			}
			seen[e.Key] = true
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for k := range rows {
		if !seen[k] {
			diffs = append(diffs, fmt.Sprintf("%q: missing", k))
		}
	}
	return diffs
}

// WantSame fails the test unless both stores have the same records.
func (p *Pair) WantSame(t testing.TB) {
	t.Helper()
	if diffs := p.Diff(t); len(diffs) > 0 {
		t.Fatalf("%d keys differ, the first: %s", len(diffs), diffs[:min(3, len(diffs))])
	}
}
