package storetest

import (
	"errors"
	"time"

	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

func (b *legacyFixture) raise(attempt string) uint32 {
	b.Helper()
	era, err := b.store.RaiseFence(b.ctx, attempt, legacyWait)
	b.ok(err)
	return era
}

func (b *legacyFixture) lift(attempt string) uint32 {
	b.Helper()
	era, err := b.store.LiftFence(b.ctx, attempt, legacyWait)
	b.ok(err)
	return era
}

func (b *legacyFixture) fenced(attempt string, era uint32) {
	b.Helper()
	gotAttempt, gotEra, err := b.store.FenceState(b.ctx)
	b.ok(err)
	if gotAttempt != attempt || gotEra != era {
		b.Errorf("the fence is of attempt %q in era %d, want %q in %d", gotAttempt, gotEra, attempt, era)
	}
}

func testLegacyFence(b *legacyFixture) {
	before := b.put(1, "a")
	b.fenced("", before.Era())
	era := b.raise("A")
	if era <= before.Era() {
		b.Fatalf("the fence's era is %d, the one before was %d", era, before.Era())
	}
	b.fenced("A", era)
	if again := b.raise("A"); again != era {
		b.Errorf("raising the same fence again gave era %d, not %d", again, era)
	}
	for name, try := range map[string]func() (record.Version, error){
		"update": func() (record.Version, error) { return b.tryPut(1, "b") },
		"insert": func() (record.Version, error) { return b.tryPut(2, "b") },
		"delete": func() (record.Version, error) { return b.tryRemove(1) },
	} {
		if _, err := try(); !errors.Is(err, store.ErrFenced) {
			b.Errorf("%s through the fence: %v, want ErrFenced", name, err)
		}
	}
	if row := b.locked(1); !row.Found || b.name(row) != "a" {
		b.Errorf("fenced legacy can't be read: %+v", row)
	}
	lifted := b.lift("A")
	if lifted <= era {
		b.Errorf("lifting gave era %d after %d", lifted, era)
	}
	b.fenced("", lifted)
	after := b.put(1, "c")
	if after.Era() != lifted {
		b.Errorf("a write after the fence is of era %d, want %d", after.Era(), lifted)
	}
	b.inOrder(before, after)
	b.lift("A") // lifting again is no error
	b.raise("B")
	b.lift("B")
	b.inOrder(after, b.put(1, "d"))
}

func testLegacyFenceOwner(b *legacyFixture) {
	era := b.raise("A")
	if _, err := b.store.RaiseFence(b.ctx, "B", legacyWait); err == nil {
		b.Error("another attempt raised the fence too")
	}
	if _, err := b.store.LiftFence(b.ctx, "B", legacyWait); err == nil {
		b.Error("another attempt lifted the fence")
	}
	b.fenced("A", era)
	if _, err := b.tryPut(1, "a"); !errors.Is(err, store.ErrFenced) {
		b.Errorf("a write passed: %v", err)
	}
	b.lift("A")
	b.put(1, "a")
}

func testLegacyFenceWaits(b *legacyFixture) {
	writer := b.begin()
	open, err := writer.Put(b.ctx, 1, "open")
	b.ok(err)
	began := time.Now()
	if _, err := b.store.RaiseFence(b.ctx, "A", 300*time.Millisecond); err == nil {
		b.Fatal("the fence was raised beside an open writer")
	}
	if took := time.Since(began); took > 5*time.Second {
		b.Errorf("the fence timed out after %s already", took)
	}
	if attempt, _, err := b.store.FenceState(b.ctx); err != nil || attempt != "" {
		b.Fatalf("a fence that timed out is raised: %q, %v", attempt, err)
	}
	second, err := writer.Put(b.ctx, 1, "still open")
	b.ok(err)
	b.ok(writer.Commit(b.ctx))
	era := b.raise("A")
	b.inOrder(open, second, record.MakeVersion(era, 0, 1))
}

// testLegacyFencedRead: a read of fenced legacy is newer than legacy's own writes and
// older than all later writes of the target.
func testLegacyFencedRead(b *legacyFixture) {
	before := b.put(1, "a")
	era := b.raise("A")
	read := b.locked(1).Version
	b.saw(before, read)
	b.inOrder(read, record.MakeVersion(era, 0, 1))
	b.lift("A")
	b.inOrder(record.MakeVersion(era, 1<<32-1, 1<<64-1), b.locked(1).Version, b.put(1, "b"))
}

// testLegacyLifted: a controller is suspended until its attempt has ended.
func testLegacyLifted(b *legacyFixture) {
	b.raise("A")
	b.lift("A")
	if _, err := b.store.RaiseFence(b.ctx, "A", legacyWait); err == nil {
		b.Error("an attempt that is over raised its fence again")
	}
	b.lift("never raised")
	if _, err := b.store.RaiseFence(b.ctx, "never raised", legacyWait); err == nil {
		b.Error("an attempt that was lifted before it raised its fence raised it")
	}
	b.put(1, "a")
}

func testLegacyReplay(b *legacyFixture) {
	b.putMany(3)
	era := b.raise("A")
	schema := b.store.Schema()
	row := func(id int, name record.Value) store.Row {
		r := make(record.Record, len(schema.Fields))
		for i := range r {
			r[i] = record.NullValue
		}
		r[schema.Index("id")], r[schema.Index("name")] = text(string(keyOf(id))), name
		return store.Row{Key: keyOf(id), Found: true, Record: r}
	}
	rows := []store.Row{row(1, text("changed")), {Key: keyOf(2)}, row(4, text("new")), row(5, record.NullValue), {Key: keyOf(6)}, row(3, text(legacyName(3)))}
	run, err := b.store.BeginReplay(b.ctx, "A")
	b.ok(err)
	replayed, err := b.store.Replay(b.ctx, run, rows)
	b.ok(err)
	back := replayed.Rows
	if len(back) != len(rows) || len(replayed.Refused) != 0 {
		b.Fatalf("Replay of %d rows returned %d, refused %v", len(rows), len(back), replayed.Refused)
	}
	for i, r := range back {
		if r.Key != rows[i].Key || r.Found != rows[i].Found {
			b.Errorf("row %d came back as %+v", i, r)
		}
		b.inOrder(record.MakeVersion(era, 1<<32-1, 1<<64-1), r.Version)
		if r.Found && r.Record[schema.Index("name")] != rows[i].Record[schema.Index("name")] {
			b.Errorf("row %d came back as %v", i, r.Record)
		}
	}
	// A second time: the controller got no reply to the first call.
	replayed, err = b.store.Replay(b.ctx, run, rows)
	b.ok(err)
	second := replayed.Rows
	if _, err := b.tryPut(1, "b"); !errors.Is(err, store.ErrFenced) {
		b.Errorf("a write passed after Replay: %v", err)
	}
	b.lift("A")
	all, _ := b.scan(1000)
	if len(all) != 4 || all[keyOf(5)][schema.Index("name")] != record.NullValue || all[keyOf(4)][schema.Index("name")].Text != "new" {
		b.Errorf("after Replay legacy holds %v", all)
	}
	for i := range rows {
		b.inOrder(second[i].Version, b.put(i+1, "next"))
		if back[i].Version.NewerThan(second[i].Version) {
			b.Errorf("row %d: the second Replay's version is older", i)
		}
	}
}

func testLegacyReplayOwner(b *legacyFixture) {
	b.put(1, "a")
	rows := []store.Row{{Key: keyOf(1)}}
	if _, err := b.store.BeginReplay(b.ctx, "A"); err == nil {
		b.Error("a run began without a fence")
	}
	if _, err := b.store.Replay(b.ctx, store.ReplayRun{Attempt: "A"}, rows); err == nil {
		b.Error("Replay without a fence")
	}
	b.raise("A")
	if _, err := b.store.BeginReplay(b.ctx, "B"); err == nil {
		b.Error("a run began through another attempt's fence")
	}
	former, err := b.store.BeginReplay(b.ctx, "A")
	b.ok(err)
	run, err := b.store.BeginReplay(b.ctx, "A")
	b.ok(err)
	if run.Number <= former.Number || run.Legacy != former.Legacy {
		b.Errorf("run %+v after %+v", run, former)
	}
	another, restarted := run, run
	another.Attempt, restarted.Legacy = "B", "another"
	for what, run := range map[string]store.ReplayRun{"another attempt's fence": another, "a run that is over": former, "a run of another legacy": restarted} {
		if _, err := b.store.Replay(b.ctx, run, rows); err == nil {
			b.Errorf("Replay through %s", what)
		}
	}
	if row := b.locked(1); !row.Found {
		b.Error("a Replay that was refused deleted the row")
	}
}

// testLegacyRenewed: a return is given up, and another one ends.
func testLegacyRenewed(b *legacyFixture) {
	b.put(1, "a")
	era := b.raise("A")
	former, err := b.store.BeginReplay(b.ctx, "A")
	b.ok(err)
	if _, err := b.store.RenewFence(b.ctx, "B"); err == nil {
		b.Error("another attempt renewed the fence")
	}
	renewed, err := b.store.RenewFence(b.ctx, "A")
	b.ok(err)
	if renewed <= era {
		b.Errorf("the fence of era %d was renewed at era %d", era, renewed)
	}
	b.fenced("A", renewed)
	if first, err := b.store.FirstEra(b.ctx); err != nil || first != era {
		b.Errorf("the first era is %d, want %d: %v", first, era, err)
	}
	if row := b.locked(1); row.Version.Era() >= era {
		b.Errorf("a row of fenced legacy has the version %s, and the fence was raised in era %d", row.Version, era)
	}
	rows := []store.Row{{Key: keyOf(1)}}
	if _, err := b.store.Replay(b.ctx, former, rows); err == nil {
		b.Error("a copy of a run that was ended by the renewal")
	}
	if _, err := b.store.EndReplay(b.ctx, former, legacyWait); err == nil {
		b.Error("a run that is over lifted the fence")
	}
	run, err := b.store.BeginReplay(b.ctx, "A")
	b.ok(err)
	aside, err := b.store.SetAside(b.ctx, run, rows, []store.Refusal{{Key: keyOf(1), Code: "23505"}})
	b.ok(err)
	if len(aside) != 1 || !aside[0].Found || aside[0].Version.Era() <= renewed {
		b.Errorf("set aside, legacy has %+v", aside)
	}
	lifted, err := b.store.EndReplay(b.ctx, run, legacyWait)
	b.ok(err)
	b.fenced("", lifted)
	b.inOrder(aside[0].Version, b.put(1, "next"))
	if first, err := b.store.FirstEra(b.ctx); err != nil || first != 0 {
		b.Errorf("without a fence the first era is %d: %v", first, err)
	}
	if _, err := b.store.RenewFence(b.ctx, "A"); !errors.Is(err, store.ErrAttemptOver) {
		b.Errorf("the fence of an attempt that is over: %v", err)
	}
}
