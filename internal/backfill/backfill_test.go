package backfill_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/internal/backfill"
	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/test/pairtest"
	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/internal/throttle"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
	"github.com/stranglerfig/migrator/store/redis"
)

// notAfter is short in tests: it is also how long a backfill waits after its barrier.
const notAfter = 400 * time.Millisecond

func runBackfill(t *testing.T, p *pairtest.Pair) (*backfill.Backfill, *pairtest.Backfills) {
	t.Helper()
	ledger := &pairtest.Backfills{Path: filepath.Join(t.TempDir(), "progress")}
	return &backfill.Backfill{
		Legacy: p.Legacy, Barrier: p.Legacy, Locker: p.Legacy, Target: p.Target, Ledger: ledger,
		ChunkRows: 500, NotAfter: notAfter,
	}, ledger
}

func run(t *testing.T, b *backfill.Backfill) backfill.Progress {
	t.Helper()
	p, err := b.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if p.Finished.IsZero() || p.Done != len(p.Chunks) {
		t.Fatalf("it ended unfinished: %+v", p)
	}
	return p
}

func TestBackfillCopiesEveryType(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"hash", "json"} {
		t.Run(format, func(t *testing.T) {
			t.Parallel()
			p := pairtest.New(t, pairtest.Options{DDL: pairtest.MessyDDL, Table: pairtest.MessyTable, Key: pairtest.MessyKey, Format: format})
			p.FillMessy(t, 2000)
			b, _ := runBackfill(t, p)
			var reports []backfill.Progress
			b.Report = func(p backfill.Progress) { reports = append(reports, p) }
			got := run(t, b)
			if got.Rows != 2000 || got.Applied != 2000 || got.Newer != 0 || got.Swept != 0 || len(got.Chunks) < 3 {
				t.Errorf("got %+v", got)
			}
			if len(reports) < 4 || reports[0].Barrier.IsZero() || reports[len(reports)-1].Rows != 2000 {
				t.Errorf("%d reports, the last: %+v", len(reports), reports[len(reports)-1])
			}
			p.WantSame(t)
		})
	}
}

func TestBackfillWaitsUntilEveryWriteFromBeforeItsBarrierIsOver(t *testing.T) {
	t.Parallel()
	p := pairtest.New(t, pairtest.Options{})
	p.FillSimple(t, 1, 10)
	b, ledger := runBackfill(t, p)
	opens := make(chan time.Time, 1)
	ledger.OnSave = func(saved backfill.Progress) error {
		switch {
		case saved.Chunks == nil:
			now, err := p.Target.Now(t.Context())
			if err != nil || saved.Barrier.IsZero() || saved.Opens.Sub(now) < notAfter-100*time.Millisecond {
				t.Errorf("behind the barrier at %s: %+v (%v)", now, saved, err)
			}
			opens <- saved.Opens
		case saved.Done == 0:
			if now, err := p.Target.Now(t.Context()); err != nil || now.Before(<-opens) {
				t.Errorf("chunks were cut at %s, before it opened (%v)", now, err)
			}
		}
		return nil
	}
	run(t, b)
}

// However often it is stopped, it resumes where it was, with the same barrier.
func TestBackfillResumes(t *testing.T) {
	t.Parallel()
	p := pairtest.New(t, pairtest.Options{})
	p.FillSimple(t, 1, 8000)
	b, ledger := runBackfill(t, p)
	b.Batch = 100
	var barrier record.Version
	last := 0
	for stops := 0; ; stops++ {
		ctx, cancel := context.WithCancel(t.Context())
		saves := rand.IntN(4) + 1
		ledger.OnSave = func(saved backfill.Progress) error {
			if saves--; saves <= 0 {
				cancel()
			}
			return nil
		}
		got, err := b.Run(ctx)
		cancel()
		if !barrier.IsZero() && got.Barrier != barrier || got.Done < last {
			t.Fatalf("after %d stops: barrier %s, %d done; it had been %s and %d", stops, got.Barrier, got.Done, barrier, last)
		}
		barrier, last = got.Barrier, got.Done
		if err == nil && !got.Finished.IsZero() {
			if stops == 0 || got.Rows < 8000 {
				t.Fatalf("%d stops, %+v", stops, got)
			}
			break
		}
		if h, _ := hint.Of(err); !errors.Is(err, context.Canceled) || h.Do != hint.BackfillRun {
			t.Fatalf("got %v, want it stopped", err)
		}
		saved, err := ledger.Load()
		if err != nil || saved.Done != got.Done || saved.Barrier != got.Barrier {
			t.Fatalf("saved %+v (%v), returned %+v", saved, err, got)
		}
	}
	p.WantSame(t)
}

// The migration goes back to legacy, where writes do not reach the target, and
// forward again: deleted records must not reappear, nor old states stay.
func TestBackfillAfterReentryLeavesNoStaleEntries(t *testing.T) {
	t.Parallel()
	p := pairtest.New(t, pairtest.Options{})
	p.FillSimple(t, 1, 3000)
	b, _ := runBackfill(t, p)
	run(t, b)
	p.Exec(t, "DELETE FROM items WHERE id % 10 = 3")
	p.Exec(t, "UPDATE items SET name = 'changed' WHERE id % 10 = 4")
	p.FillSimple(t, 4000, 4100)
	if err := p.Redis.HSet(t.Context(), "item:5000", "name", "another owner's").Err(); err != nil {
		t.Fatal(err)
	}
	if err := p.Redis.Set(t.Context(), "item:17", "of another type", 0).Err(); err != nil {
		t.Fatal(err)
	}
	got := run(t, b)
	if got.ID != 2 || got.Swept != 300 || got.Foreign != 1 || got.Rows != 2801 {
		t.Errorf("got %+v, want 2801 rows, 300 swept, and another program's value left", got)
	}
	if name, err := p.Redis.HGet(t.Context(), "item:5000", "name").Result(); err != nil || name != "another owner's" {
		t.Errorf("another program's value is %q (%v)", name, err)
	}
	if err := p.Redis.Del(t.Context(), "item:5000").Err(); err != nil {
		t.Fatal(err)
	}
	p.WantSame(t)
	// What a late write from before the rollback would do now.
	entries, err := p.Target.Get(t.Context(), []record.Key{"3"})
	if err != nil || entries[0].Presence != store.Tombstone || entries[0].Version.IsZero() {
		t.Errorf("%+v (%v), want a tombstone", entries[0], err)
	}
}

// faulty is a target that fails, or takes so long that writes come late.
type faulty struct {
	store.TargetRecords
	calls, failed, late atomic.Int64
}

// past waits until the target's clock has passed the time.
func (f *faulty) past(ctx context.Context, at time.Time) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if now, err := f.TargetRecords.Now(ctx); err != nil || now.After(at) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

func (f *faulty) Apply(ctx context.Context, writes []store.Write) ([]store.Result, error) {
	switch f.calls.Add(1) % 5 {
	case 1:
		f.failed.Add(1)
		return nil, errors.New("broken pipe")
	case 2: // every other key fails, the rest is written
		var some []store.Write
		for i := 0; i < len(writes); i += 2 {
			some = append(some, writes[i])
		}
		done, err := f.TargetRecords.Apply(ctx, some)
		if err != nil {
			return nil, err
		}
		results := make([]store.Result, len(writes))
		for i := range writes {
			if results[i].Err = errors.New("out of memory"); i%2 == 0 {
				results[i] = done[i/2]
			}
		}
		return results, nil
	case 3:
		if err := f.past(ctx, writes[0].NotAfter); err != nil {
			return nil, err
		}
	}
	results, err := f.TargetRecords.Apply(ctx, writes)
	for _, r := range results {
		if r.Outcome == store.Late {
			f.late.Add(1)
		}
	}
	return results, err
}

func TestBackfillSkipsNothingThatFailsOrComesLate(t *testing.T) {
	t.Parallel()
	p := pairtest.New(t, pairtest.Options{})
	p.FillSimple(t, 1, 3000)
	b, _ := runBackfill(t, p)
	f := &faulty{TargetRecords: p.Target}
	b.Target, b.ChunkRows = f, 1000
	got := run(t, b)
	if f.failed.Load() == 0 || f.late.Load() == 0 || got.Applied+got.Newer != 3000 {
		t.Errorf("%d failed, %d late, %+v", f.failed.Load(), f.late.Load(), got)
	}
	p.WantSame(t)
}

func TestBackfillGivesUpOnATargetThatStaysBroken(t *testing.T) {
	t.Parallel()
	p := pairtest.New(t, pairtest.Options{})
	p.FillSimple(t, 1, 100)
	b, ledger := runBackfill(t, p)
	b.Target, b.Patience = broken{p.Target}, 200*time.Millisecond
	got, err := b.Run(t.Context())
	if h, _ := hint.Of(err); err == nil || !strings.Contains(err.Error(), "no space left") || h.Do != hint.BackfillRun || got.Done != 0 {
		t.Fatalf("%+v, %v", got, err)
	}
	b.Target = p.Target
	run(t, b)
	p.WantSame(t)
	// Of a migration that went back to legacy nothing more may be saved.
	ledger.OnSave = func(backfill.Progress) error { return backfill.ErrNotReady }
	if _, err := b.Run(t.Context()); !errors.Is(err, backfill.ErrNotReady) {
		t.Fatalf("got %v, want ErrNotReady", err)
	}
}

// TestBackfillShowsThatTheTargetIsFull long before it gives up, and goes on once there is room.
func TestBackfillShowsThatTheTargetIsFull(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t)
	p := pairtest.New(t, pairtest.Options{})
	p.FillSimple(t, 1, 100)
	full, err := redis.Open(t.Context(), p.Config, server.URL(), p.Legacy.Schema())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = full.Close() }()
	limit := func(bytes string) {
		if err := full.Client().ConfigSet(context.WithoutCancel(t.Context()), "maxmemory", bytes).Err(); err != nil {
			t.Error(err)
		}
	}
	limit("1")
	b, _ := runBackfill(t, p)
	b.Target = full
	var shown string
	ctx := hint.OnWait(t.Context(), func(what string, _ hint.Hint) {
		shown = what
		limit("0")
	})
	got, err := b.Run(ctx)
	if err != nil || got.Applied != 100 {
		t.Fatalf("%+v, %v", got, err)
	}
	for _, word := range []string{"rows that can't be copied yet", "of at most 1m0s", "write key \"", "OOM"} {
		if !strings.Contains(shown, word) {
			t.Errorf("%q does not show %q", shown, word)
		}
	}
}

type broken struct{ store.TargetRecords }

func (broken) Apply(_ context.Context, writes []store.Write) ([]store.Result, error) {
	results := make([]store.Result, len(writes))
	for i := range results {
		results[i].Err = errors.New("no space left")
	}
	return results, nil
}

func TestBackfillStartsOverWhenTheTableIsRewritten(t *testing.T) {
	t.Parallel()
	p := pairtest.New(t, pairtest.Options{})
	p.FillSimple(t, 1, 4000)
	b, ledger := runBackfill(t, p)
	b.Workers = 1 // it reads ahead, and not all of it
	var once atomic.Bool
	ledger.OnSave = func(saved backfill.Progress) error {
		if saved.Done >= 1 && saved.Done <= 4 && !once.Swap(true) {
			p.Exec(t, "DELETE FROM items WHERE id % 2 = 0")
			p.Exec(t, "VACUUM FULL items")
		}
		return nil
	}
	got := run(t, b)
	if !once.Load() || got.Rows < 2000 || got.Rows > 3999 {
		t.Fatalf("got %+v", got)
	}
	// The deletes came after the barrier and no instance shadows them here: only records
	// copied before are extra.
	for _, d := range p.Diff(t) {
		if !strings.HasSuffix(d, ": extra") {
			t.Fatal(d)
		}
	}
}

func TestBackfillKeepsToItsRate(t *testing.T) {
	t.Parallel()
	p := pairtest.New(t, pairtest.Options{})
	p.FillSimple(t, 1, 1500)
	b, _ := runBackfill(t, p)
	b.Rate = 1000
	began := time.Now()
	run(t, b)
	if took := time.Since(began) - notAfter; took < 450*time.Millisecond {
		t.Errorf("1500 rows took %s at 1000 a second", took)
	}
	p.WantSame(t)
}

// TestBackfillFailsIfItsRecordsGo: a target that loses what the copy wrote, before the run ends,
// makes it fail, and name a key.
func TestBackfillFailsIfItsRecordsGo(t *testing.T) {
	t.Parallel()
	p := pairtest.New(t, pairtest.Options{})
	p.FillSimple(t, 1, 1000)
	b, ledger := runBackfill(t, p)
	ledger.OnSave = func(saved backfill.Progress) error {
		if saved.Done > 0 && saved.Done == len(saved.Chunks) && saved.Finished.IsZero() {
			return p.Redis.FlushDB(t.Context()).Err()
		}
		return nil
	}
	done, err := b.Run(t.Context())
	if err == nil || !strings.Contains(err.Error(), "was written, and the target does not have it now") || !done.Finished.IsZero() {
		t.Errorf("the run ends with %v: %+v", err, done)
	}
}

// heldSweep lists one key as stale, and from then on the throttle holds. Nothing may be read of the target until it lets go.
type heldSweep struct {
	store.TargetRecords

	throttle *throttle.Throttle
	held     atomic.Bool
	early    atomic.Int64 // reads while it was held
}

func (h *heldSweep) ListStale(_ context.Context, _ record.Version, yield func([]record.Key) error) error {
	h.held.Store(true)
	h.throttle.Urgent(false)
	time.AfterFunc(100*time.Millisecond, func() {
		h.held.Store(false)
		h.throttle.Urgent(true)
	})
	return yield([]record.Key{record.MakeKey("1")})
}

func (h *heldSweep) Get(ctx context.Context, keys []record.Key) ([]store.Entry, error) {
	if h.held.Load() {
		h.early.Add(1)
	}
	return h.TargetRecords.Get(ctx, keys)
}

// laggingStandby is far behind.
type laggingStandby struct{}

func (laggingStandby) Load(context.Context) (store.Load, error) {
	return store.Load{StandbyLag: time.Hour}, nil
}

func TestAThrottleHoldsTheSweep(t *testing.T) {
	t.Parallel()
	p := pairtest.New(t, pairtest.Options{})
	p.FillSimple(t, 1, 10)
	b, _ := runBackfill(t, p)
	b.Throttle = &throttle.Throttle{
		Limits: func(context.Context) (throttle.Limits, error) {
			return throttle.Limits{StandbyLag: time.Second}, nil
		},
		Legacy: laggingStandby{}, Target: p.Target,
	}
	b.Throttle.Urgent(true) // the copy is not held
	target := &heldSweep{TargetRecords: p.Target, throttle: b.Throttle}
	b.Target = target
	got := run(t, b)
	if n := target.early.Load(); n > 0 {
		t.Errorf("the sweep read the target %d times while it was held", n)
	}
	if got.Throttled != "" || got.Holds != 1 {
		t.Errorf("at the end: %+v", got)
	}
}
