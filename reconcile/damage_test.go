package reconcile_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/internal/repair"
	"github.com/stranglerfig/migrator/internal/test/pairtest"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/reconcile"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

func TestMessyTableReconcilesClean(t *testing.T) {
	t.Parallel()
	p := pairtest.New(t, pairtest.Options{DDL: pairtest.MessyDDL, Table: pairtest.MessyTable, Key: pairtest.MessyKey})
	p.FillMessy(t, 20_000)
	runBackfill(t, p)
	rc, ledger := reconciler(p)
	var reports []reconcile.Run
	rc.Report = func(r reconcile.Run) { reports = append(reports, r) }
	r, found := run(t, rc, full)
	if r.Differences != 0 || r.Suspects != 0 || r.Checked != 20_000 || r.Scanned != 20_000 {
		t.Fatalf("%+v %+v", r, found)
	}
	if got := reconcile.Claim(r); got != "0 of 20,000 differ: below 0.02 % at 95 % confidence" {
		t.Errorf("it claims %q", got)
	}
	if len(reports) < 20 || reports[len(reports)-1].Checked != 20_000 || len(ledger.Runs) != 1 || ledger.Runs[0].Status != reconcile.Done {
		t.Errorf("%d reports, runs %+v", len(reports), ledger.Runs)
	}
}

// version is an entry's present version.
func versionOf(t *testing.T, p *pairtest.Pair, k record.Key) record.Version {
	t.Helper()
	entries, err := p.Target.Get(t.Context(), []record.Key{k})
	if err != nil {
		t.Fatal(err)
	}
	return entries[0].Version
}

func TestDamageIsFoundRepairedAndFoundCleanByTheNextRun(t *testing.T) {
	t.Parallel()
	p := pairtest.New(t, pairtest.Options{Expires: "expires_at"})
	p.FillSimple(t, 1, 5000)
	p.Exec(t, "UPDATE items SET expires_at = now() + interval '1 day' WHERE id BETWEEN 200 AND 210")
	p.Exec(t, "UPDATE items SET expires_at = now() - interval '1 day' WHERE id BETWEEN 220 AND 230")
	p.Exec(t, "UPDATE items SET name = 'é' WHERE id = 90")
	runBackfill(t, p)
	rc, ledger := reconciler(p)
	wantClean(t, rc)

	ctx, r := t.Context(), p.Redis
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	apply := func(w store.Write) {
		t.Helper()
		results, err := p.Target.Apply(ctx, []store.Write{w})
		if err != nil || results[0].Outcome != store.Applied {
			t.Fatal(err, results)
		}
	}
	at := versionOf(t, p, "1")
	must(r.Del(ctx, "item:10").Err())
	must(r.HSet(ctx, "item:20", "name", "changed").Err())
	must(r.HDel(ctx, "item:30", "amount").Err())
	apply(store.Write{Key: "900001", Version: at, Record: record.Record{record.TextValue("900001"), record.NullValue, record.NullValue, record.NullValue}})
	must(r.Del(ctx, "item:40").Err())
	must(r.Set(ctx, "item:40", "a string", 0).Err())
	must(r.HDel(ctx, "item:50", "_v").Err())
	must(r.HSet(ctx, "item:60", "name", "old").Err())
	ledger.AddJournaled("60", pairtest.Shift(at, 0, 1))
	must(r.HSet(ctx, "item:90", "name", "e\u0301").Err())
	p.Exec(t, "DELETE FROM items WHERE id = 100")
	p.Exec(t, "UPDATE items SET name = NULL, amount = 0 WHERE id = 110")
	apply(store.Write{Key: "120", Version: pairtest.Shift(at, 0, 1), Deleted: true})
	must(r.PExpireAt(ctx, "item:200", time.Now().Add(time.Hour)).Err())
	must(r.Persist(ctx, "item:201").Err())
	must(r.HSet(ctx, "item:900002", "name", "unowned").Err())
	must(r.LPush(ctx, "item:900004", "a list").Err())
	must(r.HSet(ctx, "item:130", "amount", "not a number").Err())
	must(r.HSet(ctx, "item:x", "name", "no key").Err())
	ledger.AddJournaled("900003", pairtest.Shift(at, 0, 2)) // a lost delete

	want := map[record.Key]reconcile.Class{
		"10": reconcile.Missing, "20": reconcile.FieldDiff, "30": reconcile.FieldDiff, "900001": reconcile.Extra,
		"40": reconcile.Type, "50": reconcile.ForeignClass, "60": reconcile.Stale,
		"90": reconcile.Encoding, "100": reconcile.Extra, "110": reconcile.FieldDiff, "120": reconcile.Missing,
		"200": reconcile.Expiry, "201": reconcile.Expiry, "900002": reconcile.ForeignClass, "900004": reconcile.Type, "130": reconcile.FieldDiff, "": reconcile.ForeignClass,
	}
	check := func(run reconcile.Run, found map[record.Key]reconcile.Finding, want map[record.Key]reconcile.Class) {
		t.Helper()
		for k, class := range want {
			f, ok := found[k]
			if !ok && k == "130" { // a store may also call it damaged
				continue
			}
			if !ok || f.Class != class && (k != "130" || f.Class != reconcile.Encoding) {
				t.Errorf("key %q: %+v, want %s", k, f, class)
			}
		}
		for k, f := range found {
			if lost := k == "10" || k == "120"; f.Lost != lost {
				t.Errorf("%+v: lost, want %v", f, lost)
			}
			if _, ok := want[k]; !ok {
				t.Errorf("not expected: %+v", f)
			}
		}
		if run.Differences != int64(len(want)) {
			t.Errorf("%d differences, want %d: %v", run.Differences, len(want), run.Classes)
		}
	}
	rn, found := run(t, rc, full)
	check(rn, found, want)
	if f := found["110"]; f.Path != "/name" || len(f.Paths) != 2 || !strings.Contains(f.Detail, "null") || strings.Contains(f.Detail, "name 110") || f.Repaired {
		t.Errorf("%+v", f)
	}
	if f := found[""]; f.RawKey != "item:x" {
		t.Errorf("%+v", f)
	}

	delete(want, "60") // repaired by the journal, before anything is compared
	rn, found = run(t, rc, repaired)
	check(rn, found, want)
	if ledger.JournaledKeys() != 0 {
		t.Errorf("%d keys are still journalled", ledger.JournaledKeys())
	}
	if rn.Repaired != int64(len(want)-3) {
		for _, f := range found {
			t.Logf("%-8s %q %s repaired=%v", f.Class, f.Key, f.Repair, f.Repaired)
		}
		t.Fatalf("%d repaired, want all %d but the unknown key and what other programs wrote under keys that legacy lacks", rn.Repaired, len(want)-3)
	}
	for _, k := range []record.Key{"900002", "900004"} {
		if f := found[k]; f.Repaired || f.Repair != string(repair.Foreign) {
			t.Errorf("%+v", f)
		}
	}
	// Such a key may be journaled too: the lost delete's version is kept beside the value.
	ledger.AddJournaled("900002", pairtest.Shift(at, 0, 3))
	rn, found = run(t, rc, repaired)
	check(rn, found, map[record.Key]reconcile.Class{"900002": reconcile.ForeignClass, "900004": reconcile.Type, "": reconcile.ForeignClass})
	if name := r.HGet(ctx, "item:900002", "name").Val(); name != "unowned" || versionOf(t, p, "900002") != pairtest.Shift(at, 0, 3) || ledger.JournaledKeys() != 0 {
		t.Errorf("another program's value is %q at %s, %d keys are journaled", name, versionOf(t, p, "900002"), ledger.JournaledKeys())
	}
	if n := r.LLen(ctx, "item:900004").Val(); n != 1 {
		t.Errorf("another program's list has %d items", n)
	}
	must(r.Del(ctx, "item:900002", "item:900004").Err())
	if v := versionOf(t, p, "900003"); v != pairtest.Shift(at, 0, 2) {
		t.Errorf("the lost delete left %s", v)
	}
	must(r.Del(ctx, "item:x").Err())
	wantClean(t, rc)
	p.WantSame(t)
}

// A version that legacy has never given, in its own era or in a later one, would refuse every
// later write: it is found even where the fields agree, and repaired in an era above it.
func TestAnEntryAheadOfLegacyIsFoundAndRepaired(t *testing.T) {
	t.Parallel()
	for _, era := range []uint32{1, 5} {
		t.Run(fmt.Sprint("era ", era), func(t *testing.T) {
			t.Parallel()
			p := pairtest.New(t, pairtest.Options{})
			p.FillSimple(t, 1, 1000)
			runBackfill(t, p)
			rc, _ := reconciler(p)
			beyond := pairtest.Shift(versionOf(t, p, "1"), 0, 1<<40).InEra(era)
			for item, fields := range map[string][]any{
				"item:70": {"_v", beyond.String()}, "item:80": {"_v", beyond.String(), "name", "changed"},
				"item:5000": {"_v", beyond.String(), "id", "5000", "name", "only here"},
			} {
				if err := p.Redis.HSet(t.Context(), item, fields...).Err(); err != nil {
					t.Fatal(err)
				}
			}
			check := func(r reconcile.Run, found map[record.Key]reconcile.Finding) {
				t.Helper()
				if r.Differences != 3 || found["70"].Class != reconcile.Ahead || found["80"].Class != reconcile.Ahead ||
					found["80"].Path != "/name" || found["5000"].Class != reconcile.Extra {
					t.Fatalf("%+v %+v", r, found)
				}
			}
			check(run(t, rc, full))
			marked := 0
			rc.OnAhead = func(context.Context, record.Version) error { marked++; return nil }
			r, found := run(t, rc, repaired)
			check(r, found)
			if r.Repaired != 3 || marked == 0 || !versionOf(t, p, "70").NewerThan(beyond) {
				t.Fatalf("%+v %+v, marked %d times", r, found, marked)
			}
			wantClean(t, rc)
			p.WantSame(t)
		})
	}
}

func TestSampledRunsCoverEverything(t *testing.T) {
	t.Parallel()
	p := pairtest.New(t, pairtest.Options{})
	p.FillSimple(t, 1, 5000)
	p.Exec(t, "ANALYZE items")
	runBackfill(t, p)
	rc, _ := reconciler(p)
	const slices = 10
	for _, id := range []int{1, 777, 2500, 4999} {
		if err := p.Redis.Del(t.Context(), fmt.Sprint("item:", id)).Err(); err != nil {
			t.Fatal(err)
		}
	}
	var checked, differences int64
	for i := range slices {
		r, _ := run(t, rc, reconcile.RunOptions{Sample: phases.All / slices})
		if r.Slice != i || r.Slices != slices || r.Checked < 50 || r.Checked > 1500 {
			t.Errorf("run %d: %+v", i, r)
		}
		checked, differences = checked+r.Checked, differences+r.Differences
	}
	if checked != 5000 || differences != 4 {
		t.Errorf("%d checked and %d found in all", checked, differences)
	}
}

func TestRepairsStopAtTheirLimit(t *testing.T) {
	t.Parallel()
	p := pairtest.New(t, pairtest.Options{})
	p.FillSimple(t, 1, 300)
	rc, ledger := reconciler(p)
	rc.MaxRepairs, rc.Findings, rc.Quarantine, rc.ChunkRows = 120, 50, 100, 50
	r, found := run(t, rc, repaired)
	if r.Differences != 300 || r.Classes[reconcile.Missing] != 300 || r.Repaired != 120 || len(found) != 32 || len(ledger.Found) != 32 {
		t.Fatalf("%+v, %d kept", r, len(found))
	}
	rc.Findings, rc.MaxRepairs = 0, 10
	_, found = run(t, rc, repaired)
	stopped := 0
	for _, f := range found {
		if strings.Contains(f.Repair, "at most") && !f.Repaired {
			stopped++
		}
	}
	if len(found) != 180 || stopped != 170 {
		t.Fatalf("%d found, %d not repaired", len(found), stopped)
	}
}

func TestStoppedRunIsSavedAndClaimsNothing(t *testing.T) {
	t.Parallel()
	p := pairtest.New(t, pairtest.Options{})
	p.FillSimple(t, 1, 3000)
	runBackfill(t, p)
	rc, ledger := reconciler(p)
	ctx, cancel := context.WithCancel(t.Context())
	rc.Report = func(r reconcile.Run) {
		if r.Checked > 0 {
			cancel()
		}
	}
	r, _, err := rc.Run(ctx, full)
	if !errors.Is(err, context.Canceled) || r.Status != reconcile.Stopped || ledger.Runs[0].Status != reconcile.Stopped || r.Error == "" {
		t.Fatalf("%+v, %v", r, err)
	}
	if !strings.HasPrefix(reconcile.Claim(r), "nothing") {
		t.Errorf("it claims %q", reconcile.Claim(r))
	}
	rc.Report = nil
	wantClean(t, rc)
}
