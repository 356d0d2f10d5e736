package control_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/stranglerfig/migrator/internal/control"
	"github.com/stranglerfig/migrator/phases"
)

const inParts = `CREATE TABLE items (id bigint PRIMARY KEY, name text) PARTITION BY RANGE (id);
	CREATE TABLE items_low PARTITION OF items FOR VALUES FROM (MINVALUE) TO (11);
	CREATE TABLE items_high PARTITION OF items FOR VALUES FROM (11) TO (1000)`

// partsOf is a bench with partitions, in the phase, whose parts were noted.
func partsOf(t *testing.T, phase phases.Phase) *bench {
	t.Helper()
	b := newBenchOf(t, inParts)
	if phase.Position() >= phases.DualRead.Position() {
		b.walk(phases.DualRead)
		b.interlocked()
	}
	if phase == phases.Retain {
		b.walk(phases.Grace)
		_, err := b.controller().Advance(b.ctx, fenceGates())
		b.check(err)
		b.retainWrites()
	} else {
		b.walk(phase)
	}
	if changes, _, err := b.controller().WatchParts(b.ctx); changes != "" || err != nil {
		t.Fatalf("the first look: %q, %v", changes, err)
	}
	return b
}

// TestPartsAreWatched: in every phase each change is noted once, in the history and the status;
// the migration is unclean where records have gone, and behind the fence where some have come.
func TestPartsAreWatched(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		phase phases.Phase
		sql   string
		want  string
		lost  bool
	}{
		{phases.Legacy, "ALTER TABLE items DETACH PARTITION items_low", "partition public.items_low was detached", false},
		{phases.DualRead, "ALTER TABLE items DETACH PARTITION items_low", "partition public.items_low was detached", true},
		{phases.Grace, "ALTER TABLE items ALTER name TYPE text USING upper(name)", `public.items_low was rewritten by ALTER TABLE, and may have other values ("name"), public.items_high was rewritten by ALTER TABLE, and may have other values ("name")`, true},
		{phases.Grace, "DROP TABLE items_low", "partition public.items_low was dropped", true},
		{phases.Cutover, "CREATE TABLE items_top PARTITION OF items FOR VALUES FROM (1000) TO (2000); INSERT INTO items VALUES (1500, 'own')", "partition public.items_top was added, with records", false},
		{phases.Retain, "ALTER TABLE items DETACH PARTITION items_high", "partition public.items_high was detached", true},
		{phases.Retain, "CREATE TABLE items_top PARTITION OF items FOR VALUES FROM (1000) TO (2000)", "partition public.items_top was added, empty", false},
		{phases.Retain, "CREATE TABLE other (id bigint PRIMARY KEY, name text); INSERT INTO other VALUES (1500, 'foreign'); ALTER TABLE items ATTACH PARTITION other FOR VALUES FROM (1000) TO (2000)", "partition public.other was added, with records", true},
	} {
		t.Run(string(c.phase)+": "+c.want, func(t *testing.T) {
			t.Parallel()
			b := partsOf(t, c.phase)
			b.must(c.sql)
			changes, lost, err := b.controller().WatchParts(b.ctx)
			b.check(err)
			if changes != c.want || lost != c.lost {
				t.Errorf("%q, lost: %v", changes, lost)
			}
			st := b.snapshot().Status
			cause := phases.CauseTable
			if c.lost {
				cause = phases.CauseLoss
			}
			if st.LegacyChanged != c.want || (st.Unclean != "") != c.lost || st.LastReason != c.want || st.LastCause != string(cause) {
				t.Errorf("%+v", st)
			}
			if class := phases.ClassOf(st).Class; c.phase == phases.Retain && (class == phases.Unknown) != c.lost {
				t.Errorf("the rollback is %s", class)
			}
			if changes, _, err := b.controller().WatchParts(b.ctx); changes != "" || err != nil {
				t.Errorf("the second look: %q, %v", changes, err)
			}
		})
	}
}

// TestLaterPartitionsAreFenced: rows by PostgreSQL itself, TRUNCATE by the next look.
func TestLaterPartitionsAreFenced(t *testing.T) {
	t.Parallel()
	b := partsOf(t, phases.Retain)
	b.must("CREATE TABLE items_top PARTITION OF items FOR VALUES FROM (1000) TO (2000)")
	if _, err := b.controller().RestoreFence(b.ctx); err != nil {
		t.Fatal(err)
	}
	for _, sql := range []string{"INSERT INTO items_top VALUES (1500, 'x')", "TRUNCATE items_top"} {
		if err := b.sql(sql); err == nil {
			t.Errorf("%s passed the fence", sql)
		}
	}
}

// TestAReturnDoesNotBeginBesideATableThatHasChanged: also where no daemon has looked.
func TestAReturnDoesNotBeginBesideATableThatHasChanged(t *testing.T) {
	t.Parallel()
	b := partsOf(t, phases.Retain)
	b.must("ALTER TABLE items DETACH PARTITION items_high")
	var lost *control.FenceLostError
	if moves, err := b.rollsBack(0); !errors.As(err, &lost) || len(moves) != 0 || !strings.Contains(err.Error(), "items_high was detached") {
		t.Fatalf("%v, %v", moves, err)
	}
	b.must("ALTER TABLE items ATTACH PARTITION items_high FOR VALUES FROM (11) TO (1000)")
	if _, err := b.rollsBack(0); err == nil {
		t.Fatal("the partition has come back with its records, and the return began without a stop")
	}
	moves, err := b.rollsBack(0)
	b.check(err)
	if last := moves[len(moves)-1]; last.Phase != phases.DualRead {
		t.Errorf("the rollback ended at %s", last)
	}
}

// TestAFenceNeedsTheSameTable: a partition that went after the last reconcile took its records along.
func TestAFenceNeedsTheSameTable(t *testing.T) {
	t.Parallel()
	b := partsOf(t, phases.Grace)
	b.must("DROP TABLE items_low; CREATE TABLE items_top PARTITION OF items FOR VALUES FROM (1000) TO (2000); INSERT INTO items VALUES (1500, 'own')")
	if _, err := b.controller().Advance(b.ctx, fenceGates()); err == nil || !strings.Contains(err.Error(), "items_low was dropped") {
		t.Errorf("%v", err)
	}
	b.neverInRetain()
	b.consistent(phases.Grace)
}
