package dual

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

func increment(k int) Op[int, int] {
	return Op[int, int]{
		Legacy: func(context.Context) ([]Change[int, int], error) { return nil, store.ErrFenced },
		Keys:   []int{k},
		Update: func(_, current int, _ bool) (int, bool, error) { return current + 1, false, nil },
	}
}

func TestRetainJournalsBeforeItWrites(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newTestInstance(t, newFleet(route(phases.Retain)), newTarget(), newLegacy(), adjust{})
		p.target.entries[1] = Versioned[int]{4, true, record.MakeVersion(3, 1, 99)}
		p.target.onApply = func(context.Context) error {
			if p.fleet.returned["1"] < 1 {
				t.Error("written before it was journaled")
			}
			return nil
		}
		if err := p.writer.Write(t.Context(), increment(1)); err != nil {
			t.Fatal(err)
		}
		e := p.target.entries[1]
		if e.Value != 5 || e.Version != record.MakeVersion(7, 0, 1) || !p.target.last.Keep || p.target.last.NotAfter.IsZero() {
			t.Fatalf("%+v, %+v", e, p.target.last)
		}
		p.mustPut(1, 50)
		if e := p.target.entries[1]; e.Value != 50 || e.Version != record.MakeVersion(7, 0, 2) {
			t.Fatalf("%+v", e)
		}
		p.fleet.do(func() { p.fleet.outage = errDown })
		var te *TargetError
		if err := p.put(1, 51); !errors.As(err, &te) || te.Legacy {
			t.Fatalf("without the journal: %v", err)
		}
		if v, _ := p.target.value(1); v != 50 {
			t.Fatalf("written without the journal: %d", v)
		}
		_ = p.stop()
	})
}

func TestIrreversibleRetainAndCompleteNeedNoState(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for _, phase := range []phases.Phase{phases.Retain, phases.Complete} {
			f := newFleet(route(phase))
			f.reversible = phase == phases.Complete
			p := newTestInstance(t, f, newTarget(), newLegacy(), adjust{})
			f.do(func() { f.outage = errDown })
			tick(time.Minute)
			p.mustPut(1, 3)
			if got := p.get(1); got != 3 || len(f.returned) != 0 {
				t.Fatalf("%s: reads %d", phase, got)
			}
			_ = p.stop()
		}
	})
}

func TestRetainLosesNoIncrement(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newTestInstance(t, newFleet(route(phases.Retain)), newTarget(), newLegacy(), adjust{})
		p.target.onGet = func(ctx context.Context) error { pause(ctx, time.Millisecond); return nil }
		var group sync.WaitGroup
		for range 8 {
			group.Go(func() {
				for range 10 {
					if err := p.writer.Write(t.Context(), increment(1)); err != nil {
						t.Error(err)
					}
				}
			})
		}
		group.Wait()
		if v, _ := p.target.value(1); v != 80 {
			t.Fatalf("%d increments are there", v)
		}
		_ = p.stop()
	})
}

func TestRetainWriteOfUnknownOutcomeIsNotMadeTwice(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newTestInstance(t, newFleet(route(phases.Retain)), newTarget(), newLegacy(), adjust{})
		p.target.afterApply = func() error { return errDown } // the response does not arrive
		var e *TargetError
		if err := p.writer.Write(t.Context(), increment(1)); !errors.As(err, &e) || !e.Unknown {
			t.Fatalf("got %v", err)
		}
		if v, _ := p.target.value(1); v != 1 {
			t.Fatalf("%d increments", v)
		}
		// The request did not arrive: it is certain that nothing happened.
		p.target.afterApply = nil
		once := true
		p.target.onApply = func(context.Context) error {
			if once {
				once = false
				return errDown
			}
			return nil
		}
		if err := p.writer.Write(t.Context(), increment(1)); err != nil {
			t.Fatal(err)
		}
		if v, _ := p.target.value(1); v != 2 {
			t.Fatalf("%d increments", v)
		}
		_ = p.stop()
	})
}

func TestRetainRefusesAKeyOfALaterEra(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newTestInstance(t, newFleet(route(phases.Retain)), newTarget(), newLegacy(), adjust{})
		p.target.entries[1] = Versioned[int]{4, true, record.MakeVersion(8, 0, 0)}
		began := time.Now()
		var e *WaitError
		if err := p.put(1, 1); !errors.As(err, &e) || time.Since(began) != 2*time.Second {
			t.Fatalf("%v after %s", err, time.Since(began))
		}
		if v, _ := p.target.value(1); v != 4 {
			t.Fatal("written over a later era")
		}
		_ = p.stop()
	})
}

func TestWriteWithoutUpdateIsRefusedInRetain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newTestInstance(t, newFleet(route(phases.Retain)), newTarget(), newLegacy(), adjust{})
		op := increment(1)
		op.Update = nil
		if err := p.writer.Write(t.Context(), op); !errors.Is(err, ErrNoUpdate) {
			t.Fatal(err)
		}
		mine := errors.New("not enough in stock")
		op.Update = func(int, int, bool) (int, bool, error) { return 0, false, mine }
		if err := p.writer.Write(t.Context(), op); err != mine { //nolint:errorlint // as it is
			t.Fatal(err)
		}
		_ = p.stop()
	})
}

func TestWritesWaitForTheNextEpochAndFollowIt(t *testing.T) {
	t.Parallel()
	bubble(t, "fenced, then retain", func(t *testing.T) {
		p := newTestInstance(t, newFleet(route(phases.Grace)), newTarget(), newLegacy(), adjust{})
		p.mustPut(1, 1)
		settle()
		p.legacy.fenced = true // the fence is up before the instance knows it
		done := make(chan error, 1)
		go func() { done <- p.put(1, 2) }()
		tick(50 * time.Millisecond)
		p.fleet.move(phases.Fenced, 0)
		tick(50 * time.Millisecond)
		if got := p.fleet.acknowledged(p.Instance); got != 2 {
			t.Fatalf("the waiting write delays the fence: acknowledged %d", got)
		}
		p.fleet.move(phases.Retain, 0)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if v, _ := p.target.value(1); v != 2 || p.legacy.values[1] != 1 || p.fleet.returned["1"] < 1 {
			t.Fatalf("target %d, legacy %d", v, p.legacy.values[1])
		}
		if s := p.Stats(); s.FenceWaits != 1 || s.Writes != 2 {
			t.Fatalf("%+v", s)
		}
		_ = p.stop()
	})
	bubble(t, "lifted again", func(t *testing.T) {
		p := newTestInstance(t, newFleet(route(phases.Grace)), newTarget(), newLegacy(), adjust{})
		settle()
		p.legacy.fenced = true
		p.fleet.move(phases.Fenced, 0)
		settle()
		done := make(chan error, 1)
		go func() { done <- p.put(1, 2) }()
		settle()
		p.fleet.move(phases.Lifting, 0)
		tick(time.Second)
		p.legacy.fenced = false
		p.fleet.move(phases.Grace, 0)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if v, _ := p.target.value(1); v != 2 || p.legacy.values[1] != 2 {
			t.Fatalf("target %d, legacy %d", v, p.legacy.values[1])
		}
		_ = p.stop()
	})
	bubble(t, "retain moves away under a write", func(t *testing.T) {
		p := newTestInstance(t, newFleet(route(phases.Retain)), newTarget(), newLegacy(), adjust{})
		settle()
		p.fleet.do(func() { p.fleet.noHints = true })
		p.fleet.move(phases.Returning, 0)
		done := make(chan error, 1)
		go func() { done <- p.put(1, 2) }()
		tick(time.Second)
		p.fleet.do(func() { p.fleet.era = 8 })
		p.fleet.move(phases.Grace, 0)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if v, _ := p.target.value(1); v != 2 || p.legacy.values[1] != 2 {
			t.Fatalf("target %d, legacy %d", v, p.legacy.values[1])
		}
		_ = p.stop()
	})
	bubble(t, "over budget", func(t *testing.T) {
		p := newTestInstance(t, newFleet(route(phases.Fenced)), newTarget(), newLegacy(), adjust{})
		began := time.Now()
		var e *WaitError
		if err := p.put(1, 2); !errors.As(err, &e) || time.Since(began) != 2*time.Second {
			t.Fatalf("%v after %s", err, time.Since(began))
		}
		p.legacy.fenced = true
		p.fleet.move(phases.Grace, 0)
		settle()
		if err := p.put(1, 2); !errors.As(err, &e) || !errors.Is(err, store.ErrFenced) {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if err := p.writer.Put(ctx, 1, 2, p.legacy.put(1, 2)); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		_ = p.stop()
	})
}

// TestARefusalAfterADoneKeyIsTheApplications: it is not reported, nor counted, as the target's
// failure, and differs from one before any key.
func TestARefusalAfterADoneKeyIsTheApplications(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newTestInstance(t, newFleet(route(phases.Retain)), newTarget(), newLegacy(), adjust{})
		own := errors.New("too few")
		refusing := func(refused int) error {
			return p.writer.Write(t.Context(), Op[int, int]{
				Legacy: func(context.Context) ([]Change[int, int], error) { return nil, errors.New("legacy is fenced") },
				Keys:   []int{1, 2, 3},
				Update: func(k, v int, _ bool) (int, bool, error) {
					if k == refused {
						return v, false, own
					}
					return v + 1, false, nil
				},
			})
		}
		if err := refusing(1); !errors.Is(err, own) || errors.As(err, new(*TargetError)) {
			t.Errorf("the first key: %v", err)
		}
		err := refusing(2)
		var target *TargetError
		if !errors.As(err, &target) || !errors.Is(err, own) || !target.Refused || target.Unknown || target.Legacy ||
			len(target.Done) != 1 || target.Done[0] != "1" || len(target.Keys) != 2 || strings.Contains(err.Error(), "the target refused") {
			t.Errorf("the second key: %#v, %v", target, err)
		}
		if s := p.Stats(); s.Failed != 0 {
			t.Errorf("%d writes failed", s.Failed)
		}
		if err := p.stop(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestAnExpiredRecordIsNotFoundInRetain: an Update meets it as absent, whether the target still has its
// version or not, since Binding.Read does not return what has expired; it is no lost record.
func TestAnExpiredRecordIsNotFoundInRetain(t *testing.T) {
	t.Parallel()
	errNone := errors.New("no such session")
	for name, entry := range map[string]Versioned[int]{"its version is kept": {Version: record.MakeVersion(3, 1, 99)}, "its version is gone": {}} {
		bubble(t, name, func(t *testing.T) {
			p := newTestInstance(t, newFleet(route(phases.Retain)), newTarget(), newLegacy(), adjust{})
			p.target.do(func() { p.target.entries[1] = entry })
			touch := increment(1)
			touch.Update = func(_, current int, found bool) (int, bool, error) {
				if !found {
					return 0, false, errNone
				}
				return current + 1, false, nil
			}
			if err := p.writer.Write(t.Context(), touch); !errors.Is(err, errNone) {
				t.Errorf("%v", err)
			}
			if got := p.target.entries[1]; got != entry {
				t.Errorf("the target has %+v", got)
			}
			_ = p.stop()
		})
	}
}

// No write lands later than the not-after that was fixed before the key was listed: a return counts
// on it. A write of many records lists the rest again when the time is nearly over.
func TestRetainListsAgainBeforeALaterNotAfter(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newTestInstance(t, newFleet(route(phases.Retain)), newTarget(), newLegacy(), adjust{})
		const records = 60
		listed, written := map[record.Key]time.Time{}, 0
		p.target.onGet = func(context.Context) error {
			p.fleet.do(func() {
				for k, n := range p.fleet.returned {
					if n > 0 {
						listed[k] = time.Now()
						p.fleet.returned[k] = 0
					}
				}
			})
			tick(400 * time.Millisecond)
			return nil
		}
		p.target.onApply = func(context.Context) error { written++; return nil }
		op := increment(0)
		for k := 1; k < records; k++ {
			op.Keys = append(op.Keys, k)
		}
		p.target.afterApply = func() error {
			key := p.writer.key(op.Keys[written-1])
			// The listing was seen at the first read after it, so at most one read late.
			if late := p.target.last.NotAfter.Sub(listed[key]); late > phases.NotAfter {
				t.Errorf("key %s was listed %s before its not-after", key, late)
			}
			return nil
		}
		if err := p.writer.Write(t.Context(), op); err != nil {
			t.Fatal(err)
		}
		if written != records {
			t.Errorf("%d records written", written)
		}
		_ = p.stop()
	})
}

// TestNotAfterIsFixedBeforeTheListing: the response to the listing takes its time, and a return that has
// seen the key waits no longer for that.
func TestNotAfterIsFixedBeforeTheListing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(route(phases.Retain))
		p := newTestInstance(t, f, newTarget(), newLegacy(), adjust{})
		var listed time.Time
		f.onReturn = func() {
			listed = time.Now()
			tick(900 * time.Millisecond)
		}
		p.mustPut(1, 3)
		if late := p.target.last.NotAfter.Sub(listed); listed.IsZero() || late > phases.NotAfter {
			t.Errorf("the target takes the write until %s after its listing", late)
		}
		_ = p.stop()
	})
}
