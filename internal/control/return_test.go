package control_test

import (
	"context"
	"errors"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/stranglerfig/migrator/internal/control"
	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// inRetain is a bench in retain with the writes of retainWrites.
func inRetain(t *testing.T) *bench {
	t.Helper()
	b := atGrace(t)
	_, err := b.controller().Advance(b.ctx, fenceGates())
	b.check(err)
	b.retainWrites()
	return b
}

// loses makes the target lose what it has of a key, its version included.
func (b *bench) loses(key string) {
	b.t.Helper()
	options, err := redis.ParseURL(b.m.Target.URL)
	b.check(err)
	client := redis.NewClient(options)
	defer func() { _ = client.Close() }()
	b.check(client.Del(b.ctx, "item:"+key, "migrator:v:{item:"+key+"}").Err())
	entries, err := b.target.Get(b.ctx, []record.Key{record.Key(key)})
	b.check(err)
	if entries[0].Presence != store.Absent || !entries[0].Version.IsZero() {
		b.t.Fatalf("the target still has %+v of key %s", entries[0], key)
	}
}

func (b *bench) rollsBack(accept int64) ([]phases.Route, error) {
	return b.controller().Rollback(b.ctx, control.Rollback{Reason: "test", AcceptMissing: accept})
}

// legacyName is a row's name in legacy, "" where it has none.
func (b *bench) legacyName(key record.Key) string {
	b.t.Helper()
	rows, err := b.legacy.Lookup(b.ctx, []record.Key{key})
	b.check(err)
	if !rows[0].Found {
		return ""
	}
	return rows[0].Record[1].Text
}

// A return whose target has lost records begins only once their number is accepted. Legacy
// keeps what it has of them, and reads end at legacy.
func TestReturnStopsBeforeWritesWaitIfTheTargetLostRecords(t *testing.T) {
	t.Parallel()
	b := inRetain(t)
	b.loses("1")
	b.loses("3") // journaled, and never written: legacy has its row all the same
	b.loses("100")
	for _, accepted := range []int64{0, 1} {
		var missing *control.MissingError
		moves, err := b.rollsBack(accepted)
		if !errors.As(err, &missing) || missing.Missing != 2 || missing.Keys != 4 || len(moves) != 0 {
			t.Fatalf("with %d accepted: %v, %v", accepted, moves, err)
		}
		if h, ok := hint.Of(err); !ok || h.Do != hint.AcceptMissing || h.Of[0] != "2" {
			t.Errorf("hint %+v", h)
		}
		b.consistent(phases.Retain)
	}
	moves, err := b.rollsBack(2)
	b.check(err)
	if last := moves[len(moves)-1]; last.Phase != phases.DualRead {
		t.Errorf("the rollback ended at %s: reads may come from a target that lacks records", last)
	}
	b.consistent(phases.DualRead)
	for key, want := range map[record.Key]string{"1": "item 1", "3": "item 3", "2": "", "100": ""} {
		if got := b.legacyName(key); got != want {
			t.Errorf("legacy has %q under key %s, want %q", got, key, want)
		}
	}
	st := b.snapshot().Status
	if st.ReturnKeys != 0 || st.Dirty.IsZero() || st.Unclean == "" || st.AcceptedMissing != 0 {
		t.Errorf("after it: %+v", st)
	}
}

// vanishedTarget has the version of a record that another program has deleted.
type vanishedTarget struct {
	store.TargetRecords
	key record.Key
}

func (v *vanishedTarget) Get(ctx context.Context, keys []record.Key) ([]store.Entry, error) {
	entries, err := v.TargetRecords.Get(ctx, keys)
	for i := range entries {
		if entries[i].Key == v.key {
			entries[i].Presence, entries[i].Record, entries[i].Vanished = store.Tombstone, nil, true
		}
	}
	return entries, err
}

// What another program has deleted in the target counts as lost, and stays in legacy.
func TestReturnStopsIfAnotherProgramDeletedRecords(t *testing.T) {
	t.Parallel()
	b := inRetain(t)
	ctl := b.controller()
	ctl.Target = &vanishedTarget{b.target, "1"}
	var missing *control.MissingError
	if _, err := ctl.Rollback(b.ctx, control.Rollback{Reason: "test"}); !errors.As(err, &missing) || missing.Missing != 1 {
		t.Fatalf("rolled back: %v", err)
	}
	_, err := ctl.Rollback(b.ctx, control.Rollback{Reason: "test", AcceptMissing: 1})
	b.check(err)
	if got := b.legacyName("1"); got != "item 1" {
		t.Errorf("legacy has %q under key 1", got)
	}
}

// lossyTarget loses a record between two reads.
type lossyTarget struct {
	store.TargetRecords
	gets int
	lose func()
}

func (l *lossyTarget) Get(ctx context.Context, keys []record.Key) ([]store.Entry, error) {
	entries, err := l.TargetRecords.Get(ctx, keys)
	if l.gets++; l.gets == 2 { // once in the rehearsal, then in the return
		l.lose()
	}
	return entries, err
}

// What the target loses while it is replayed is not deleted in legacy either.
func TestReplayDeletesNothingThatTheTargetLostJustNow(t *testing.T) {
	t.Parallel()
	b := inRetain(t)
	ctl := b.controller()
	lossy := &lossyTarget{TargetRecords: b.target, lose: func() { b.loses("1") }}
	ctl.Target = lossy
	if _, err := ctl.Rollback(b.ctx, control.Rollback{Reason: "test"}); err == nil || lossy.gets < 3 {
		t.Errorf("%v, after %d reads", err, lossy.gets)
	}
	if got := b.legacyName("1"); got != "changed in retain" {
		t.Errorf("legacy has %q under key 1", got)
	}
	_, err := b.rollsBack(1)
	b.check(err)
	if got := b.legacyName("1"); got != "changed in retain" {
		t.Errorf("legacy has %q under key 1", got)
	}
}

// A target that loses records after the return has begun stops it there. The number can then be
// accepted, and the return ends.
func TestReturnStopsIfTheTargetLosesRecordsMeanwhile(t *testing.T) {
	t.Parallel()
	b := inRetain(t)
	ctl := b.controller()
	ctl.State = interferedState{State: b.state, to: phases.Returning, moved: func() { b.loses("1") }}
	var missing *control.MissingError
	_, err := ctl.Rollback(b.ctx, control.Rollback{Reason: "test"})
	if !errors.As(err, &missing) || missing.Missing != 1 || missing.At.Phase != phases.Returning {
		t.Fatal(err)
	}
	if err := b.controller().Resume(b.ctx); !errors.As(err, &missing) {
		t.Errorf("the daemon went on by itself: %v", err)
	}
	if got := b.legacyName("1"); got != "item 1" {
		t.Errorf("legacy has %q under key 1", got)
	}
	moves, err := b.rollsBack(1)
	b.check(err)
	if last := moves[len(moves)-1]; last.Phase != phases.DualRead {
		t.Errorf("the rollback ended at %s", last)
	}
	if got := b.legacyName("1"); got != "item 1" {
		t.Errorf("legacy has %q under key 1", got)
	}
	if got := b.legacyName("100"); got != "born in retain" {
		t.Errorf("legacy has %q under key 100", got)
	}
}

// TestAnExpiredRecordIsNotLost: legacy still has its row, and the target nothing, once its version's
// time is over too.
func TestAnExpiredRecordIsNotLost(t *testing.T) {
	t.Parallel()
	b := inRetain(t)
	b.loses("1")
	ctl := b.controller()
	ctl.Expired = func(r record.Record) bool { return r[0].Text == "1" }
	moves, err := ctl.Rollback(b.ctx, control.Rollback{Reason: "test"})
	b.check(err)
	if last := moves[len(moves)-1]; last.Phase != phases.Grace || b.snapshot().Status.Unclean != "" {
		t.Errorf("the rollback ended at %s, unclean: %q", last, b.snapshot().Status.Unclean)
	}
	if name := b.legacyName("1"); name != "" {
		t.Errorf("legacy still has the record that expired: %q", name)
	}
}

// TestReturnKeepsNewerRowsOfLegacy: the target was put back to a file from before the fence, and has a
// journaled record as it was long before. Legacy's row, of the moment of the fence, is newer: it
// stays, and the target gets it.
func TestReturnKeepsNewerRowsOfLegacy(t *testing.T) {
	t.Parallel()
	b := inRetain(t)
	entries, err := b.target.Get(b.ctx, []record.Key{"1"})
	b.check(err)
	old := entries[0].Record.Clone()
	old[1] = record.TextValue("long before the fence")
	first, err := b.legacy.FirstEra(b.ctx)
	b.check(err)
	before := record.MakeVersion(first-1, 0, 1)
	results, err := b.target.Apply(b.ctx, []store.Write{{Key: "1", Record: old, Version: before, Only: &entries[0].Version, Overwrite: true}})
	b.check(err)
	if results[0].Outcome != store.Applied {
		t.Fatalf("put back: %+v", results[0])
	}
	_, err = b.rollsBack(0)
	b.check(err)
	if got := b.legacyName("1"); got != "item 1" {
		t.Errorf("legacy has %q, of the fence it had %q", got, "item 1")
	}
	entries, err = b.target.Get(b.ctx, []record.Key{"1"})
	b.check(err)
	if got := entries[0]; got.Record[1].Text != "item 1" || got.Version.Era() <= first {
		t.Errorf("the target has %q at %s", got.Record[1].Text, got.Version)
	}
}
