package reconcile_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/internal/test/pairtest"
	"github.com/stranglerfig/migrator/reconcile"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// TestWhatIsUnderWayIsNoDifference: suspects are read again once what brings changes has caught up, however long that
// takes.
func TestWhatIsUnderWayIsNoDifference(t *testing.T) {
	t.Parallel()
	p := pairtest.New(t, pairtest.Options{})
	p.FillSimple(t, 0, 100)
	runBackfill(t, p)
	p.Exec(t, `UPDATE items SET name = 'late' WHERE id < 10`)
	rc, _ := reconciler(p)
	calls := 0
	rc.CaughtUp = func(context.Context) error {
		if calls++; calls == 1 {
			runBackfill(t, p) // brings it
		}
		return nil
	}
	wantClean(t, rc)
	if calls == 0 {
		t.Error("it was not awaited")
	}
	p.Exec(t, `UPDATE items SET name = 'later' WHERE id < 10`)
	gone := errors.New("nothing captures")
	rc.CaughtUp = func(context.Context) error { return gone }
	if r, _, err := rc.Run(t.Context(), full); !errors.Is(err, gone) {
		t.Errorf("%+v, %v", r, err)
	}
}

// restless is a target whose records are other ones at each read.
type restless struct {
	store.TargetRecords

	reads atomic.Int64
}

func (r *restless) Get(_ context.Context, keys []record.Key) ([]store.Entry, error) {
	entries := make([]store.Entry, len(keys))
	for n, k := range keys {
		name := record.TextValue(fmt.Sprint("read ", r.reads.Add(1)))
		entries[n] = store.Entry{
			Key: k, Presence: store.Live, Version: record.MakeVersion(0, 0, 1),
			Record: record.Record{record.TextValue(string(k)), name, record.NullValue, record.NullValue},
		}
	}
	return entries, nil
}

// TestWhatChangesAtEveryReadIsNotJudged: it is no difference, and the run did not find it right either.
func TestWhatChangesAtEveryReadIsNotJudged(t *testing.T) {
	t.Parallel()
	p := pairtest.New(t, pairtest.Options{})
	p.FillSimple(t, 1, 2)
	rc, _ := reconciler(p)
	moving := &restless{TargetRecords: p.Target}
	rc.Target, rc.Pause, rc.Rereads = moving, time.Millisecond, 2
	r, found := run(t, rc, reconcile.RunOptions{Full: true})
	if r.Checked != r.Unsettled || r.Unsettled == 0 || r.Differences != 0 || len(found) != 0 {
		t.Errorf("%d of %d unsettled, %d differ: %+v, after %d reads", r.Unsettled, r.Checked, r.Differences, found, moving.reads.Load())
	}
}

// journalReader calls read when the journal was read.
type journalReader struct {
	*pairtest.Reconciles

	read func()
}

func (j journalReader) Journal(ctx context.Context, after record.Key, limit int) ([]reconcile.JournaledKey, error) {
	defer j.read()
	return j.Reconciles.Journal(ctx, after, limit)
}

// repairedLate is a target that lacks all records until it is repaired.
type repairedLate struct {
	store.TargetRecords

	repaired atomic.Bool
}

func (r *repairedLate) Get(ctx context.Context, keys []record.Key) ([]store.Entry, error) {
	if r.repaired.Load() {
		return (&restless{}).Get(ctx, keys)
	}
	return r.TargetRecords.Get(ctx, keys)
}

// TestWhatIsRepairedMeanwhileIsNoLostWrite: a key's journal entry may be cleared, with its repair, between the read of the
// target and that of the journal.
func TestWhatIsRepairedMeanwhileIsNoLostWrite(t *testing.T) {
	t.Parallel()
	p := pairtest.New(t, pairtest.Options{})
	p.FillSimple(t, 1, 2)
	for name, meanwhile := range map[string]bool{"repaired": true, "lost": false} {
		rc, ledger := reconciler(p)
		target := &repairedLate{TargetRecords: p.Target}
		rc.Target, rc.Pause, rc.NotAfter = target, time.Millisecond, 50*time.Millisecond
		rc.Ledger = journalReader{ledger, func() { target.repaired.Store(meanwhile) }}
		r, found := run(t, rc, reconcile.RunOptions{Full: true})
		if r.Differences == 0 || len(found) == 0 {
			t.Errorf("%s: %+v", name, r)
		}
		for _, f := range found {
			if f.Class != reconcile.Missing || f.Lost == meanwhile {
				t.Errorf("%s: %+v", name, f)
			}
		}
	}
}
