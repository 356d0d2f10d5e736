package reconcile_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/internal/test/pairtest"
	"github.com/stranglerfig/migrator/reconcile"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// writer is an application that writes legacy, then the target, as dual does.
type writer struct {
	t      testing.TB
	p      *pairtest.Pair
	ledger *pairtest.Reconciles
	delay  time.Duration // of a late target write, at most
	lose   int           // of a hundred target writes
	late   int           // of a hundred
	within time.Duration // not-after; zero: notAfter
	under  sync.WaitGroup
	lost   sync.Map // keys that were ever journalled
}

// write changes or deletes one item. The target's part may follow later, or never.
// It must not be cut off between the two: nothing would record what was lost.
func (w *writer) write(ctx context.Context, id int) error {
	key := record.MakeKey(fmt.Sprint(id))
	out := store.Write{Key: key, NotAfter: time.Now().Add(cmp.Or(w.within, notAfter))}
	var version string
	var err error
	if rand.IntN(5) == 0 {
		out.Deleted = true
		err = w.p.SQL.QueryRow(ctx, "DELETE FROM items WHERE id = $1 RETURNING migrator_legacy.version('move')", id).Scan(&version)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
	} else {
		name, amount := fmt.Sprint("written ", rand.IntN(1_000_000)), fmt.Sprint(rand.IntN(1000), ".50")
		out.Record = record.Record{record.TextValue(fmt.Sprint(id)), record.TextValue(name), record.TextValue(amount), record.NullValue}
		err = w.p.SQL.QueryRow(ctx, `INSERT INTO items VALUES ($1, $2, $3::text::numeric)
			ON CONFLICT (id) DO UPDATE SET name = excluded.name, amount = excluded.amount
			RETURNING migrator_legacy.version('move')`, id, name, amount).Scan(&version)
	}
	if err != nil {
		return err
	}
	if out.Version, err = record.ParseVersion(version); err != nil {
		return err
	}
	switch luck := rand.IntN(100); {
	case luck < w.lose:
		w.journal(out)
	case luck < w.lose+w.late:
		due := time.NewTimer(rand.N(w.delay))
		w.under.Go(func() {
			<-due.C
			w.apply(out)
		})
	default:
		w.apply(out)
	}
	return nil
}

func (w *writer) apply(out store.Write) {
	results, err := w.p.Target.Apply(context.WithoutCancel(w.t.Context()), []store.Write{out})
	if err != nil || results[0].Err != nil || results[0].Outcome != store.Applied && results[0].Outcome != store.Older {
		w.journal(out)
	}
}

func (w *writer) journal(out store.Write) {
	w.lost.Store(out.Key, true)
	w.ledger.AddJournaled(out.Key, out.Version)
}

// during returns a context that is cancelled after d. A deadline would reach a
// store's connection, whose timeout can come before the context says that it ended.
func during(t *testing.T, d time.Duration) (context.Context, context.CancelFunc) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	time.AfterFunc(d, stop)
	return ctx, stop
}

// paced runs once at once and then once each interval, until ctx ends.
func paced(ctx context.Context, interval time.Duration) iter.Seq[struct{}] {
	return func(yield func(struct{}) bool) {
		tick := time.NewTicker(interval)
		defer tick.Stop()
		for ctx.Err() == nil && yield(struct{}{}) {
			select {
			case <-ctx.Done():
			case <-tick.C:
			}
		}
	}
}

// watch fails the test if a key's version in the target ever shrinks.
func watch(ctx context.Context, t *testing.T, p *pairtest.Pair, ids int) {
	keys := make([]record.Key, ids)
	for i := range keys {
		keys[i] = record.MakeKey(fmt.Sprint(i))
	}
	high := make([]record.Version, ids)
	for range paced(ctx, time.Millisecond) {
		entries, err := p.Target.Get(ctx, keys)
		if err != nil {
			if ctx.Err() == nil {
				t.Error(err)
			}
			return
		}
		for i, e := range entries {
			if high[i].NewerThan(e.Version) {
				t.Errorf("key %s went back from %s to %s", keys[i], high[i], e.Version)
			}
			high[i] = e.Version
		}
	}
}

// Backfill, reconcile with repair and the journal's repair, all beside writers a
// quarter of whose target writes are lost and a quarter late, some too late.
func TestRepairBesideLiveWritersLosesNothing(t *testing.T) {
	t.Parallel()
	const ids = 60
	p := pairtest.New(t, pairtest.Options{})
	p.FillSimple(t, 0, ids/2)
	rc, ledger := reconciler(p)
	rc.Pause = 10 * time.Millisecond
	w := &writer{t: t, p: p, ledger: ledger, delay: notAfter + notAfter/4, lose: 25, late: 25}
	ctx, stop := during(t, 6*time.Second)
	defer stop()
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range paced(ctx, 2*time.Millisecond) {
				if err := w.write(context.WithoutCancel(ctx), rand.IntN(ids)); err != nil && ctx.Err() == nil {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Go(func() { watch(ctx, t, p, ids) })
	runBackfill(t, p)
	runs := 0
	for ctx.Err() == nil {
		if _, _, err := rc.Run(ctx, repaired); err != nil && ctx.Err() == nil {
			t.Fatal(err)
		}
		runs++
	}
	all.Wait()
	w.under.Wait()
	if _, err := rc.RepairJournal(t.Context()); err != nil || ledger.JournaledKeys() != 0 {
		t.Fatalf("%v, %d keys still lost", err, ledger.JournaledKeys())
	}
	p.WantSame(t) // nothing but the journal was behind
	r, found := run(t, rc, repaired)
	if r.Differences != 0 || runs < 2 {
		t.Fatalf("after %d runs beside the writers: %+v %+v", runs, r, found)
	}
	wantClean(t, rc)
}

// Lag is no difference, however constant: keys are written all the time, and each
// target write arrives, but late.
func TestConstantWritesAreNeverReportedFalsely(t *testing.T) {
	t.Parallel()
	const ids = 8
	p := pairtest.New(t, pairtest.Options{})
	p.FillSimple(t, 0, 500)
	runBackfill(t, p)
	rc, ledger := reconciler(p)
	w := &writer{t: t, p: p, ledger: ledger, delay: notAfter * 3 / 4, late: 100}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var all sync.WaitGroup
	all.Go(func() {
		for range paced(ctx, 5*time.Millisecond) {
			if err := w.write(context.WithoutCancel(ctx), rand.IntN(ids)); err != nil && ctx.Err() == nil {
				t.Error(err)
			}
		}
	})
	// One key whose target writes are all lost: it must be found, although legacy changes all
	// the time.
	lost := &writer{t: t, p: p, ledger: ledger, lose: 100}
	all.Go(func() {
		for range paced(ctx, 20*time.Millisecond) {
			if err := lost.write(context.WithoutCancel(ctx), 400); err != nil && ctx.Err() == nil {
				t.Error(err)
			}
		}
	})
	var suspects int64
	var reported []reconcile.Finding
	for runs := 0; runs < 3 || suspects < 3; runs++ { // until enough lagged
		r, found, err := rc.Run(t.Context(), full)
		if err != nil {
			t.Fatal(err)
		}
		suspects += r.Suspects
		reported = append(reported, found...)
	}
	stop()
	all.Wait()
	w.under.Wait()
	for _, f := range reported {
		_, late := w.lost.Load(f.Key) // for the target's clock, on a busy machine: it is behind
		switch {
		case f.Key == "400" && f.Class != reconcile.Stale && f.Class != reconcile.Extra:
			t.Errorf("the lost one is %+v", f)
		case f.Key != "400" && !late:
			t.Errorf("reported: %+v", f)
		}
	}
	if _, err := rc.RepairJournal(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantClean(t, rc)
}
