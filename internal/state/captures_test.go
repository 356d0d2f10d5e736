package state_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/stranglerfig/migrator/internal/capture"
	"github.com/stranglerfig/migrator/internal/state/captures"
	"github.com/stranglerfig/migrator/internal/statedb"
	"github.com/stranglerfig/migrator/record"
)

func TestCaptureKeepsItsProgress(t *testing.T) {
	t.Parallel()
	s, _ := open(t)
	ctx := t.Context()
	first := captures.New(s.Pool(), testMigration, s.MarkUnclean)
	if err := first.Save(ctx, capture.Progress{}); !errors.Is(err, statedb.ErrReleased) {
		t.Errorf("saved without Begin: %v", err)
	}
	p, release, err := first.Begin(ctx)
	must(t, err)
	if diff := cmp.Diff(capture.Progress{}, p, cmpopts.EquateComparable(record.Version{})); diff != "" {
		t.Errorf("none yet: %s", diff)
	}
	if _, _, err := captures.New(s.Pool(), testMigration, s.MarkUnclean).Begin(ctx); !errors.Is(err, capture.ErrRunning) || !strings.Contains(err.Error(), "since 20") {
		t.Errorf("a second one: %v", err)
	}
	p = capture.Progress{
		System: "7312345678901234567", Timeline: 2, Slot: "migrator_move_12345678", Publication: "1 2", Consistent: 0xFFFFFFFFFFFFFFFF, Resume: 1 << 60,
		Commit: time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC), Era: 4294967295, Barrier: record.MakeVersion(1, 2, 3), Fence: "attempt",
		Sweeps: []capture.Sweep{{Version: record.MakeVersion(1, 2, 4), Opens: time.Date(2026, 1, 2, 3, 4, 6, 0, time.UTC), Partly: true}}, Changes: 9,
	}
	must(t, first.Save(ctx, p))
	must(t, first.Held(ctx))
	key, low, high := record.Key("a\xff"), record.MakeVersion(1, 1, 5), record.MakeVersion(1, 1, 6)
	must(t, first.Journal(ctx, []capture.Refused{{Key: key, Version: high, Err: errors.New("too\nlarge")}, {Key: "b", Version: low, Err: errors.New("x")}}))
	must(t, first.Journal(ctx, []capture.Refused{{Key: key, Version: low, Err: errors.New("still")}}))
	var version, reason string
	var changes int
	must(t, s.Pool().QueryRow(ctx, `SELECT version, reason, changes FROM migrator.journal WHERE key = $1`, []byte(key)).Scan(&version, &reason, &changes))
	if version != high.String() || reason != "still" || changes != 2 {
		t.Errorf("journalled: %s, %q, %d", version, reason, changes)
	}
	must(t, first.Unclean(ctx, "the table was truncated"))
	if st, err := s.Status(ctx, testMigration); err != nil || st.Unclean != "the table was truncated" {
		t.Errorf("unclean: %q, %v", st.Unclean, err)
	}
	release()
	if err := errors.Join(first.Save(ctx, p)); err == nil {
		t.Error("saved after release")
	}
	if err := first.Held(ctx); err == nil {
		t.Error("the lock is held after release")
	}
	got, release, err := captures.New(s.Pool(), testMigration, s.MarkUnclean).Begin(ctx)
	must(t, err)
	release()
	if diff := cmp.Diff(p, got, cmpopts.EquateComparable(record.Version{})); diff != "" {
		t.Errorf("resumed: %s", diff)
	}
	if _, _, err := captures.New(s.Pool(), "nope", s.MarkUnclean).Begin(ctx); !errors.Is(err, statedb.ErrUnknownMigration) {
		t.Errorf("unknown: %v", err)
	}
}
