package reconcile_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stranglerfig/migrator/internal/repair"
	"github.com/stranglerfig/migrator/internal/test/pairtest"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/reconcile"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// damage changes a field of every nth item, and returns how many.
func damage(t *testing.T, p *pairtest.Pair, every, until int) int64 {
	t.Helper()
	pipe := p.Redis.Pipeline()
	var n int64
	for id := every; id <= until; id += every {
		pipe.HSet(t.Context(), fmt.Sprint("item:", id), "name", "damaged")
		n++
	}
	if _, err := pipe.Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestAPlanListsTheRepairsAndMakesNone(t *testing.T) {
	t.Parallel()
	p := pairtest.New(t, pairtest.Options{})
	p.FillSimple(t, 1, 2000)
	runBackfill(t, p)
	rc, ledger := reconciler(p)
	ctx, r := t.Context(), p.Redis
	at := versionOf(t, p, "1")
	beyond := pairtest.Shift(at, 0, 1<<40)
	for _, err := range []error{
		r.Del(ctx, "item:10").Err(),
		r.HSet(ctx, "item:20", "name", "changed").Err(),
		r.HSet(ctx, "item:30", "_v", beyond.String()).Err(),
		r.HSet(ctx, "item:3000", "_v", at.String(), "id", "3000").Err(),
		r.HSet(ctx, "item:5000", "name", "another program's").Err(),
		r.HSet(ctx, "item:5001", "name", "another program's").Err(),
		r.LPush(ctx, "item:5002", "another program's").Err(),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	ledger.AddJournaled("40", at)   // which agrees
	ledger.AddJournaled("4000", at) // a delete that was lost
	ledger.AddJournaled("5001", at)
	before := p.Diff(t)

	steps := map[record.Key]reconcile.Planned{}
	o := full
	o.Plan = func(p reconcile.Planned) { steps[p.Key] = p }
	run1, found := run(t, rc, o)
	if run1.Repair || run1.Repaired != 0 || run1.Differences != 7 || found["10"].Repair != "planned: write" {
		t.Errorf("%+v %+v", run1, found)
	}
	for k, want := range map[record.Key]reconcile.Planned{
		"10":   {Class: reconcile.Missing, Step: repair.StepWrite, Target: store.Absent},
		"20":   {Class: reconcile.FieldDiff, Step: repair.StepWrite, Target: store.Live},
		"30":   {Class: reconcile.Ahead, Step: repair.StepLower, Target: store.Live, From: beyond},
		"3000": {Class: reconcile.Extra, Step: repair.StepTombstone, Target: store.Live, From: at, To: at},
		"40":   {Journal: true, Step: repair.StepWrite, Target: store.Live},
		"4000": {Journal: true, Step: repair.StepTombstone, Target: store.Absent, To: at},
		"5000": {Class: reconcile.ForeignClass, Step: repair.StepForeign, Target: store.Unowned},
		"5001": {Class: reconcile.ForeignClass, Journal: true, Step: repair.StepForeign, Target: store.Unowned, To: at},
		"5002": {Class: reconcile.Type, Step: repair.StepForeign, Target: store.WrongType},
	} {
		got := steps[k]
		if got.Class != want.Class || got.Step != want.Step || got.Journal != want.Journal || got.Target != want.Target ||
			!want.From.IsZero() && got.From != want.From || !want.To.IsZero() && got.To != want.To {
			t.Errorf("key %s: planned %+v, want %+v", k, got, want)
		}
		delete(steps, k)
	}
	if len(steps) > 0 {
		t.Errorf("planned besides: %+v", steps)
	}
	if after := p.Diff(t); len(after) != len(before) || ledger.JournaledKeys() != 3 {
		t.Errorf("the plan changed something: %v, then %v", before, after)
	}
	rc.MaxRepairs = 2 // what other programs wrote uses up none of them
	for range 2 {
		run(t, rc, repaired)
	}
	if n := r.Exists(ctx, "item:5000", "item:5001", "item:5002").Val(); n != 3 {
		t.Errorf("of what other programs wrote, %d of 3 are there", n)
	}
	if err := r.Del(ctx, "item:5000", "item:5001", "item:5002").Err(); err != nil {
		t.Fatal(err)
	}
	wantClean(t, rc)
	p.WantSame(t)
	if v := versionOf(t, p, "4000"); v != at {
		t.Errorf("the lost delete left %s", v)
	}
}

// A wrong mapping differs everywhere: nothing must be rewritten by it.
func TestNothingIsRepairedWhereTooMuchDiffers(t *testing.T) {
	t.Parallel()
	p := pairtest.New(t, pairtest.Options{})
	p.FillSimple(t, 1, 2000)
	runBackfill(t, p)
	rc, ledger := reconciler(p)
	damaged := damage(t, p, 20, 2000) // 5 %
	r, found := run(t, rc, repaired)
	if r.Differences != damaged || r.Repaired != 0 || !strings.Contains(r.Refused, "100 of 2,000") || len(found) != int(damaged) || len(p.Diff(t)) != int(damaged) {
		t.Fatalf("%+v, %d found", r, len(found))
	}
	for _, f := range found {
		if f.Repaired || f.Repair != "not repaired: too much differs" {
			t.Fatalf("%+v", f)
		}
	}
	planned := 0
	o := full
	o.Plan = func(reconcile.Planned) { planned++ }
	if r, _ := run(t, rc, o); planned != 0 || r.Refused == "" {
		t.Errorf("the plan has %d repairs of which none would be made: %+v", planned, r)
	}
	rc.MaxDifference = 50_000 // exactly what there is
	if r, _ := run(t, rc, o); planned != int(damaged) || r.Refused != "" {
		t.Errorf("%d planned: %+v", planned, r)
	}
	rc.MaxDifference = 0
	forced := repaired
	forced.Force = "the target's cache was emptied"
	r, _ = run(t, rc, forced)
	if r.Repaired != damaged || r.Forced != forced.Force || r.Refused != "" || ledger.Runs[len(ledger.Runs)-1].Forced != forced.Force {
		t.Fatalf("%+v", r)
	}
	wantClean(t, rc)
}

// Programs that write past the application are the first cause, where they are known.
func TestTooMuchDiffersSinceProgramsBypass(t *testing.T) {
	t.Parallel()
	p := pairtest.New(t, pairtest.Options{})
	p.FillSimple(t, 1, 2000)
	runBackfill(t, p)
	rc, _ := reconciler(p)
	damage(t, p, 20, 2000)
	for _, known := range []string{"7 changes of psql", ""} {
		rc.Bypass = func(context.Context) string { return known }
		r, _ := run(t, rc, repaired)
		bypass, mapping := strings.Index(r.Refused, "past the application (7 changes of psql)"), strings.Index(r.Refused, "a fault in the mapping")
		if mapping < 0 || (bypass >= 0) != (known != "") || bypass > mapping {
			t.Errorf("%q: %s", known, r.Refused)
		}
	}
}

// Of few records a large share differs soon: for these MaxRepairs is a sufficient bound.
func TestTheBoundNeedsRecordsToRestOn(t *testing.T) {
	t.Parallel()
	p := pairtest.New(t, pairtest.Options{})
	p.FillSimple(t, 1, 900)
	rc, _ := reconciler(p)
	rc.MaxDifference = 1
	rc.MaxRepairs = -1
	r, found := run(t, rc, repaired)
	if r.Repaired != 0 || r.Refused != "" || len(found) == 0 {
		t.Fatalf("no repair is allowed: %+v", r)
	}
	for key, f := range found { // of one class not all are kept
		if !strings.Contains(f.Repair, "0 repairs at most") {
			t.Fatalf("%s: %+v", key, f)
		}
	}
	rc.MaxRepairs = 1000
	if r, _ := run(t, rc, repaired); r.Repaired != 900 {
		t.Fatalf("%+v", r)
	}
	wantClean(t, rc)
}

// What is repaired is the same at a rate, and a stop keeps what was done and found.
func TestAStoppedRepairKeepsWhatItFound(t *testing.T) {
	t.Parallel()
	p := pairtest.New(t, pairtest.Options{})
	p.FillSimple(t, 1, 2000)
	runBackfill(t, p)
	rc, ledger := reconciler(p)
	rc.MaxDifference = phases.Whole
	rc.RepairRate = 7
	damaged := damage(t, p, 50, 2000)
	ctx, cancel := context.WithCancel(t.Context())
	rc.Report = func(r reconcile.Run) {
		if r.Repaired > 0 {
			cancel()
		}
	}
	r, found, err := rc.Run(ctx, repaired)
	if !errors.Is(err, context.Canceled) || r.Repaired == 0 || r.Repaired >= damaged || len(found) != int(damaged) || len(ledger.Found) != int(damaged) {
		t.Fatalf("%v, %+v, %d found", err, r, len(found))
	}
	if got := int64(len(p.Diff(t))); got != damaged-r.Repaired {
		t.Errorf("%d repaired of %d, but %d differ", r.Repaired, damaged, got)
	}
	rc.Report, rc.RepairRate = nil, 0
	if r, _ := run(t, rc, repaired); r.Repaired != r.Differences {
		t.Errorf("%+v", r)
	}
	wantClean(t, rc)
}

// One class must not take all the room for findings.
func TestEachClassKeepsSomeFindings(t *testing.T) {
	t.Parallel()
	p := pairtest.New(t, pairtest.Options{})
	p.FillSimple(t, 1, 1000)
	runBackfill(t, p)
	rc, _ := reconciler(p)
	rc.Findings = 40
	damage(t, p, 2, 990)
	for _, err := range []error{
		p.Redis.Del(t.Context(), "item:999").Err(),
		p.Redis.HDel(t.Context(), "item:997", "_v").Err(),
		p.Redis.Rename(t.Context(), "item:995", "item:995000").Err(),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	r, found := run(t, rc, full)
	if r.Classes[reconcile.FieldDiff] != 495 || len(found) > 40 || len(found) < 20 {
		t.Fatalf("%+v, %d found", r, len(found))
	}
	for _, k := range []record.Key{"999", "997", "995000", "995"} {
		if found[k].Class == "" {
			t.Errorf("key %s is not among the findings: %v", k, r.Classes)
		}
	}
}
