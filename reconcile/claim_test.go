package reconcile_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/reconcile"
)

func TestClaim(t *testing.T) {
	t.Parallel()
	run := func(change func(*reconcile.Run)) reconcile.Run {
		r := reconcile.Run{Status: reconcile.Done, Full: true, Slices: 1, Checked: 812331}
		change(&r)
		return r
	}
	for _, c := range []struct {
		run  reconcile.Run
		want string
	}{
		{run(func(*reconcile.Run) {}), "0 of 812,331 differ: below 0.0004 % at 95 % confidence"},
		{run(func(r *reconcile.Run) { r.Checked = 1 }), "0 of 1 differ: below 100 % at 95 % confidence"},
		{run(func(r *reconcile.Run) { r.Checked = 59 }), "0 of 59 differ: below 5 % at 95 % confidence"},
		{run(func(r *reconcile.Run) { r.Differences = 12 }), "12 of 812,331 differ (0.0015 %): below 0.0024 % at 95 % confidence"},
		{run(func(r *reconcile.Run) { r.Checked, r.Differences = 100, 50 }), "50 of 100 differ (50 %): below 59 % at 95 % confidence"},
		{run(func(r *reconcile.Run) { r.Checked, r.Differences = 3, 3 }), "3 of 3 differ (100 %)"},
		{run(func(r *reconcile.Run) {
			r.Checked, r.Differences, r.Classes = 0, 2, map[reconcile.Class]int64{reconcile.Extra: 2}
		}), "2 of 2 differ (100 %)"},
		{run(func(r *reconcile.Run) { r.Checked, r.Unsettled = 60, 1 }), "0 of 59 differ: below 5 % at 95 % confidence"},
		{run(func(r *reconcile.Run) { r.Checked = 0 }), "nothing: legacy has no records"},
		{run(func(r *reconcile.Run) { r.Status = reconcile.Stopped }), "nothing: the run was stopped after 812,331 records"},
		{run(func(r *reconcile.Run) { r.Status = reconcile.Running }), "nothing: the run is still running, after 812,331 records"},
		{
			run(func(r *reconcile.Run) { r.Full, r.Slice, r.Slices, r.Checked = false, 2, 100, 8123 }),
			"0 of 8,123 differ: below 0.04 % at 95 % confidence if damage is spread evenly; slice 3 of 100",
		},
		{
			run(func(r *reconcile.Run) { r.Full, r.Slice, r.Slices, r.Checked, r.Places = false, 2, 100, 8123, 12 }),
			"0 of 8,123 differ: below 0.04 % at 95 % confidence if damage is spread evenly, below 23 % however it is clustered (12 places); slice 3 of 100",
		},
		{
			run(func(r *reconcile.Run) {
				r.Full, r.Slices, r.Checked, r.Places, r.Differences = false, 100, 8123, 12, 3
			}),
			"3 of 8,123 differ (0.037 %): below 0.096 % at 95 % confidence if damage is spread evenly, below 53 % however it is clustered (12 places); slice 1 of 100",
		},
		{
			run(func(r *reconcile.Run) {
				r.Full, r.Slices, r.Checked, r.Places, r.Differences = false, 100, 8123, 12, 40
			}),
			"40 of 8,123 differ (0.49 %): below 0.65 % at 95 % confidence if damage is spread evenly; slice 1 of 100",
		},
		{
			run(func(r *reconcile.Run) {
				r.Full, r.Slices, r.Checked, r.Places, r.Recent, r.RecentDifferent, r.RecentOnly, r.Differences = false, 100, 8123, 12, 500, 3, 2, 2
			}),
			"0 of 8,123 differ: below 0.04 % at 95 % confidence if damage is spread evenly, below 23 % however it is clustered (12 places); slice 1 of 100; of young records 3 of 500: below 1.6 %",
		},
		{run(func(r *reconcile.Run) { r.Full, r.Slices, r.Checked = false, 7, 0 }), "nothing: the slice holds no records"},
	} {
		if got := reconcile.Claim(c.run); got != c.want {
			t.Errorf("got  %q\nwant %q", got, c.want)
		}
	}
}

func TestWriteReport(t *testing.T) {
	t.Parallel()
	began := time.Date(2024, 2, 29, 12, 0, 0, 0, time.UTC)
	run := reconcile.Run{
		ID: 12, Epoch: 7, Full: true, TwoWay: true, Repair: true, Slices: 1, Status: reconcile.Done,
		Checked: 20000, Scanned: 20001, Suspects: 14, Differences: 4, Repaired: 1, Unsettled: 3,
		Classes: map[reconcile.Class]int64{reconcile.FieldDiff: 1, reconcile.ForeignClass: 2, reconcile.Missing: 1},
		Began:   began, Finished: began.Add(12345 * time.Millisecond),
	}
	found := []reconcile.Finding{
		{Key: "eu,42", Class: reconcile.FieldDiff, Path: "/price", Paths: []string{"/price", "/name"}, Detail: "value: legacy #1, target #2", Repaired: true, Repair: "written again from legacy"},
		{Key: "\x1b[31m", Class: reconcile.Missing},
		{RawKey: "product:x", Class: reconcile.ForeignClass, Repair: "left alone"},
	}
	var b strings.Builder
	if err := reconcile.WriteReport(&b, run, &reconcile.Coverage{Window: phases.Duration(30 * 24 * time.Hour), Runs: 3, Checked: 0.9999, Clean: 0.029}, found); err != nil {
		t.Fatal(err)
	}
	want := `Reconcile run 12, full, both ways, with repair, epoch 7, done
  checked          20,000  records of legacy, each against the target's copy
  scanned          20,001  entries of the target, for records that legacy lacks
  suspects             14  differed in the first comparison
  different             4  still different after the recheck: confirmed
    foreign             2  the key holds a value that migrator did not write
    field               1  fields differ
    missing             1  legacy has the record, the target has not
  repaired              1  of these, and read again; only a later run can be clean
  unsettled             3  changed at every read; they have no result
  took            12.345s
May be claimed: 4 of 19,997 differ (0.020 %): below 0.046 % at 95 % confidence
Coverage: 99.9 % of legacy checked by 3 runs of the last 30d, 2.9 % by clean ones since a difference was found

field    "eu,42"  /price and 1 more  value: legacy #1, target #2  repaired: written again from legacy
missing  "\x1b[31m"
foreign  no key, stored as "product:x"  left alone
... and 1 more, which were counted but not kept
`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}

func TestSlices(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ hundredths, want int }{{10000, 1}, {9999, 2}, {5000, 2}, {100, 100}, {150, 67}, {1, 10000}, {0, 1}} {
		if got := reconcile.Slices(phases.Percent(c.hundredths)); got != c.want {
			t.Errorf("%d: %d slices, want %d", c.hundredths, got, c.want)
		}
	}
}

func TestProgress(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		run         reconcile.Run
		done, total int64
	}{
		"one way":                {reconcile.Run{Expected: 100, Checked: 40}, 40, 100},
		"both ways":              {reconcile.Run{Expected: 100, Checked: 100, Scanned: 30, TwoWay: true}, 130, 200},
		"more than was expected": {reconcile.Run{Expected: 100, Checked: 120}, 120, 120},
		"no repair yet":          {reconcile.Run{Expected: 100, Checked: 100, Repair: true, Differences: 20}, 100, 100},
		"repairing":              {reconcile.Run{Expected: 100, Checked: 100, Repair: true, Differences: 20, Repaired: 5}, 105, 120},
	} {
		if done, total := c.run.Progress(); done != c.done || total != c.total {
			t.Errorf("%s: %d of %d, want %d of %d", name, done, total, c.done, c.total)
		}
	}
}
