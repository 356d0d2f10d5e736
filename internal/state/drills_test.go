package state_test

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/internal/drill"
	"github.com/stranglerfig/migrator/internal/state/drills"
	"github.com/stranglerfig/migrator/internal/statedb"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/phases"
)

// TestADrillCountsForItsGate: the newest that passed counts, one of this rehearsal before any
// other. One drill runs at a time. A drill that did not finish, or failed, does not count.
func TestADrillCountsForItsGate(t *testing.T) {
	t.Parallel()
	s, _ := open(t)
	ctx := t.Context()
	var m migration.Config
	must(t, json.Unmarshal(applied().Config, &m))
	newest := func() *phases.DrillResult {
		t.Helper()
		e, err := s.Snapshot(ctx, testMigration)
		must(t, err)
		return e.Drill
	}
	runs := drills.New(s.Pool(), testMigration)
	run := func(rehearsal string, passed bool) drills.Run {
		t.Helper()
		begun, release, err := runs.Begin(ctx, rehearsal)
		must(t, err)
		defer release()
		if _, _, err := runs.Begin(ctx, rehearsal); !errors.Is(err, drills.ErrDrilling) {
			t.Errorf("a second one: %v", err)
		}
		must(t, runs.Finish(ctx, drill.Report{Drill: begun.ID, Migration: testMigration, Passed: passed, Reasons: []string{"a reason\x00"}}))
		return begun
	}
	_, release, err := runs.Begin(ctx, m.DrillHash())
	must(t, err)
	release() // its process has died
	run(m.DrillHash(), false)
	if e := newest(); e != nil {
		t.Errorf("%+v of drills that have not passed", e)
	}
	run("another", true)
	if e := newest(); e == nil || e.ConfigHash != "h1" { // under the migration file of that time
		t.Errorf("%+v", e)
	}
	exec(t, s, `UPDATE migrator.drills SET config_hash = 'h0'`)
	if e := newest(); e == nil || e.ConfigHash != "h0" {
		t.Errorf("%+v", e)
	}
	run(m.DrillHash(), true)
	exec(t, s, `UPDATE migrator.drills SET config_hash = 'h0', finished_at = finished_at - interval '1 hour' WHERE rehearsal <> 'another'`)
	if e := newest(); e == nil || e.ConfigHash != "h1" || time.Since(e.Passed) < time.Hour/2 {
		t.Errorf("%+v", e)
	}
	list, err := runs.List(ctx, 10)
	if err != nil || len(list) != 4 || !list[0].Passed || list[2].Reason != "a reason" || !list[3].Finished.IsZero() {
		t.Errorf("%+v, %v", list, err)
	}
	if r, err := runs.Report(ctx, list[0].ID); err != nil || !r.Passed {
		t.Errorf("%+v, %v", r, err)
	}
	for _, id := range []int64{list[3].ID, 999} {
		if _, err := runs.Report(ctx, id); err == nil {
			t.Errorf("drill %d has a report", id)
		}
	}
}

// TestAnImportedDrillCountsOnce, from when it was finished.
func TestAnImportedDrillCountsOnce(t *testing.T) {
	t.Parallel()
	s, _ := open(t)
	ctx := t.Context()
	var m migration.Config
	must(t, json.Unmarshal(applied().Config, &m))
	at := time.Now().Add(-24 * time.Hour).Truncate(time.Microsecond).UTC()
	r := drill.Report{Migration: testMigration, Environment: statedb.Staging, ConfigHash: "staging's", Rehearsal: m.DrillHash(), Began: at, Finished: at, Passed: true, Fault: drill.Fault{Kind: dual.FaultLatency}}
	for n := range 2 {
		run, added, err := drills.New(s.Pool(), testMigration).Import(ctx, r, "digest", "key")
		if err != nil || added != (n == 0) || run.Signer != "key" || !run.Finished.Equal(at) {
			t.Errorf("%+v, %t, %v", run, added, err)
		}
	}
	e, err := s.Snapshot(ctx, testMigration)
	if err != nil || e.Drill == nil || e.Drill.ConfigHash != "h1" || !e.Drill.Passed.Equal(at) || len(e.Drill.Faults) != 1 || !e.Drill.Faults["latency"].Equal(at) {
		t.Errorf("%+v, %v", e.Drill, err)
	}
	if _, _, err := drills.New(s.Pool(), "unknown").Import(ctx, r, "digest", "key"); !errors.Is(err, statedb.ErrUnknownMigration) {
		t.Errorf("%v", err)
	}
}
