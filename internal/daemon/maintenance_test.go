package daemon_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stranglerfig/migrator/internal/daemon"
	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/store"
)

// fakeStores is a migration and its stores, which record when a Maintainer calls them. The
// effect on real stores is tested in package daemontest.
type fakeStores struct {
	mu        sync.Mutex
	status    phases.Status
	targetErr error // of the target
	stateErr  error // of the state
	opened    int
	closed    int
	repairs   []time.Duration // when, since the beginning
	resumed   []time.Duration
	purged    []time.Duration
	watched   []time.Duration
	gaps      string // of the fence
	parts     []time.Duration
	changes   string // of the parts
	bypass    string // what a look at legacy's counters finds

	bypassLooks int
	beats       int
	beatErr     error
	maintained  []time.Duration
	checked     []time.Duration
	seen        store.Check // noted
	hangs       bool        // opening the stores
	hung        int         // times
	began       time.Time
}

func (w *fakeStores) set(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

func (w *fakeStores) Status(context.Context, string) (phases.Status, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.status, nil
}

func (w *fakeStores) Snapshot(ctx context.Context, m string) (phases.Snapshot, error) {
	st, err := w.Status(ctx, m)
	return phases.Snapshot{Now: time.Now(), Status: st}, err
}

func (w *fakeStores) note(at *[]time.Duration, done func() int64) (int64, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	*at = append(*at, time.Since(w.began))
	if w.targetErr != nil {
		return 0, w.targetErr
	}
	return done(), nil
}

func (w *fakeStores) RepairJournal(context.Context) (int64, error) {
	return w.note(&w.repairs, func() int64 {
		n := w.status.JournalKeys
		w.status.JournalKeys = 0
		return n
	})
}

func (w *fakeStores) Resume(context.Context) error {
	_, err := w.note(&w.resumed, func() int64 {
		w.status.Route = phases.Route{Phase: phases.Grace, Epoch: w.status.Route.Epoch + 2}
		w.status.Attempt = ""
		return 0
	})
	return err
}

func (w *fakeStores) RestoreFence(context.Context) (string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	gaps := w.gaps
	w.watched, w.gaps = append(w.watched, time.Since(w.began)), ""
	return gaps, w.targetErr
}

func (w *fakeStores) WatchBypass(context.Context) (string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.bypassLooks++
	return w.bypass, nil
}

func (w *fakeStores) WatchParts(context.Context) (string, bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	changes := w.changes
	w.parts, w.changes = append(w.parts, time.Since(w.began)), ""
	return changes, changes != "", nil
}

func (w *fakeStores) WatchTarget(context.Context) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.beats++
	return w.beatErr
}

func (w *fakeStores) WatchLegacy(context.Context) (string, error) { return "", nil }

func (w *fakeStores) WatchColumns(context.Context) ([]string, bool, error) { return nil, false, nil }

func (w *fakeStores) CheckServers(context.Context) []store.Check {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.checked = append(w.checked, time.Since(w.began))
	return []store.Check{{Name: "target: redis-eviction", Result: store.Refused, Detail: "allkeys-lru", Hint: hint.Hint{Text: "noeviction"}}}
}

func (w *fakeStores) Purge(context.Context) (int64, error) {
	return w.note(&w.purged, func() int64 { return 3 })
}

func (w *fakeStores) Close() { w.set(func() { w.closed++ }) }

// runMaintainer runs a Maintainer over fake stores while f runs, in a synctest bubble.
func runMaintainer(t *testing.T, phase phases.Phase, f func(w *fakeStores)) (log string) {
	t.Helper()
	var out bytes.Buffer
	synctest.Test(t, func(t *testing.T) {
		w := &fakeStores{began: time.Now(), status: phases.Status{
			Migration: "m", Route: phases.Route{Phase: phase, Epoch: 5}, RouteSince: time.Now(), StoredHash: "one",
		}}
		m := daemon.Maintainer{
			Migration: "m", State: w, Log: slog.New(slog.NewTextHandler(&out, nil)),
			Budget: func(context.Context) (time.Duration, error) { return 7 * time.Second, nil },
			Open: func(ctx context.Context) (daemon.Stores, error) {
				unknown, hangs := false, false
				w.set(func() {
					if hangs = w.hangs; hangs {
						w.hung++
						return
					}
					w.opened++
					unknown = w.status.StoredHash == "unknown"
				})
				if hangs {
					<-ctx.Done()
					return nil, ctx.Err()
				}
				if unknown {
					return nil, errors.New("the migration file is not the applied one")
				}
				return w, nil
			},
			NoteChecks: func(_ context.Context, checks []store.Check) (changed []store.Check, err error) {
				w.mu.Lock()
				defer w.mu.Unlock()
				if w.seen.Name != checks[0].Name {
					w.seen, changed = checks[0], checks
				}
				return changed, nil
			},
			MaintainState: func(context.Context) error {
				w.mu.Lock()
				defer w.mu.Unlock()
				w.maintained = append(w.maintained, time.Since(w.began))
				return w.stateErr
			},
		}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() {
			// It begins once f waits for the first time: what f has set until then is so from the beginning.
			time.Sleep(time.Nanosecond)
			w.set(func() { w.began = time.Now() })
			ended <- m.Run(ctx)
		}()
		f(w)
		stop()
		if err := <-ended; err != nil {
			t.Errorf("it ended with %v", err)
		}
		if w.opened != w.closed && w.status.StoredHash != "unknown" {
			t.Errorf("the stores were opened %d times and closed %d times", w.opened, w.closed)
		}
	})
	return out.String()
}

func advanceClock(d time.Duration) {
	time.Sleep(d + time.Nanosecond) // of the bubble's clock; the maintainer began a nanosecond late
	synctest.Wait()
}

// TestFenceIsWatchedInRetain: every five seconds, there and nowhere else; a gap is logged.
func TestFenceIsWatchedInRetain(t *testing.T) {
	t.Parallel()
	for _, phase := range phases.Order {
		log := runMaintainer(t, phase, func(w *fakeStores) {
			w.set(func() { w.gaps = "there is no fence" })
			advanceClock(21 * time.Second)
			w.set(func() {
				if n := len(w.watched); phase == phases.Retain && (n < 4 || n > 5) || phase != phases.Retain && n > 0 {
					t.Errorf("in %s the fence was looked at %d times in 21 s", phase, n)
				}
			})
		})
		if strings.Contains(log, "there is no fence") != (phase == phases.Retain) {
			t.Errorf("in %s: %s", phase, log)
		}
	}
}

// TestChecksAreRepeated: at once and every minute, until complete; what has changed is logged once. Stores that can't
// be opened are what was seen.
func TestChecksAreRepeated(t *testing.T) {
	t.Parallel()
	for _, phase := range phases.Order {
		log := runMaintainer(t, phase, func(w *fakeStores) {
			advanceClock(3*time.Minute + 2*time.Second)
			w.set(func() {
				if n := len(w.checked); phase != phases.Complete && n != 4 || phase == phases.Complete && n > 0 {
					t.Errorf("in %s the checks were made %d times in three minutes", phase, n)
				}
				w.status.StoredHash = "unknown"
			})
			advanceClock(time.Minute + 2*time.Second)
			w.set(func() {
				if phase != phases.Complete && (w.seen.Name != "stores: connection" || w.seen.Result != store.Refused) {
					t.Errorf("in %s: %+v", phase, w.seen)
				}
			})
		})
		if n := strings.Count(log, "check=\"target: redis-eviction\" result=refused"); n != 1 && phase != phases.Complete {
			t.Errorf("in %s: %s", phase, log)
		}
	}
}

// TestAServerThatHangsIsWaitedForOnce: opening the stores is given up, and the jobs of one tick share the failure.
func TestAServerThatHangsIsWaitedForOnce(t *testing.T) {
	t.Parallel()
	log := runMaintainer(t, phases.Cutover, func(w *fakeStores) {
		w.set(func() { w.hangs = true })
		advanceClock(65 * time.Second)
		w.set(func() {
			if w.hung < 4 || w.hung > 8 || w.seen.Name != "stores: connection" {
				t.Errorf("in 65 s the stores were opened %d times, and seen was %+v", w.hung, w.seen)
			}
			w.hangs = false
		})
		advanceClock(time.Minute)
		w.set(func() {
			if w.beats == 0 || w.seen.Name != "target: redis-eviction" {
				t.Errorf("after the outage: %d beats, and seen was %+v", w.beats, w.seen)
			}
		})
	})
	if !strings.Contains(log, "deadline exceeded") {
		t.Errorf("%s", log)
	}
}

// TestLegacysCountersAreWatched: where the target is to have all of legacy's writes.
func TestLegacysCountersAreWatched(t *testing.T) {
	t.Parallel()
	for _, phase := range phases.Order {
		log := runMaintainer(t, phase, func(w *fakeStores) {
			w.set(func() { w.bypass = "7 changes" })
			advanceClock(21 * time.Second)
			w.set(func() {
				if n := w.bypassLooks; phase.Compared() && (n < 4 || n > 5) || !phase.Compared() && n > 0 {
					t.Errorf("in %s the counters were looked at %d times in 21 s", phase, n)
				}
			})
		})
		if strings.Contains(log, "7 changes") != phase.Compared() {
			t.Errorf("in %s: %s", phase, log)
		}
	}
}

// TestPartsAreWatched: in every phase but the last, whose legacy may be dropped.
func TestPartsAreWatched(t *testing.T) {
	t.Parallel()
	for _, phase := range phases.Order {
		log := runMaintainer(t, phase, func(w *fakeStores) {
			w.set(func() { w.changes = "partition p was dropped" })
			advanceClock(21 * time.Second)
			w.set(func() {
				if n := len(w.parts); phase != phases.Complete && (n < 4 || n > 5) || phase == phases.Complete && n > 0 {
					t.Errorf("in %s the parts were looked at %d times in 21 s", phase, n)
				}
			})
		})
		if strings.Contains(log, "partition p was dropped") != (phase != phases.Complete) {
			t.Errorf("in %s: %s", phase, log)
		}
	}
}

func TestJournalRepairBacksOffWhileTargetIsDown(t *testing.T) {
	t.Parallel()
	log := runMaintainer(t, phases.DualRead, func(w *fakeStores) {
		advanceClock(10 * time.Second)
		w.set(func() { w.targetErr, w.status.JournalKeys = errors.New("connection refused"), 12 })
		advanceClock(10 * time.Minute)
		w.set(func() {
			if n := len(w.repairs); n < 40 || n > 100 {
				t.Errorf("%d attempts in ten minutes", n)
			}
			w.targetErr = nil
		})
		advanceClock(15 * time.Second)
		w.set(func() {
			if w.status.JournalKeys != 0 {
				t.Error("the journal is not repaired")
			}
		})
	})
	if n := strings.Count(log, `msg=failed`); n != 1 {
		t.Errorf("the failure was logged %d times", n)
	}
	for _, want := range []string{`msg=recovered`, `keys=12`, "connection refused"} {
		if !strings.Contains(log, want) {
			t.Errorf("the log lacks %s:\n%s", want, log)
		}
	}
}

func TestInterruptedMoveIsResumedAfterItsBudget(t *testing.T) {
	t.Parallel()
	for _, phase := range []phases.Phase{phases.Fenced, phases.Lifting, phases.Returning, phases.Grace} {
		runMaintainer(t, phase, func(w *fakeStores) {
			w.set(func() { w.status.Attempt, w.status.JournalKeys = "a", 1 })
			advanceClock(11 * time.Second)
			w.set(func() {
				if len(w.resumed) != 0 || len(w.repairs) != 0 {
					t.Errorf("%s: resumed at %v, repaired at %v", phase, w.resumed, w.repairs)
				}
			})
			advanceClock(3 * time.Second)
			w.set(func() {
				if len(w.resumed) != 1 {
					t.Errorf("%s: resumed at %v", phase, w.resumed)
				}
				if len(w.repairs) != 1 {
					t.Errorf("%s: repaired at %v", phase, w.repairs)
				}
			})
		})
	}
}

func TestMaintainerIgnoresRetain(t *testing.T) {
	t.Parallel()
	runMaintainer(t, phases.Retain, func(w *fakeStores) {
		w.set(func() { w.status.Attempt, w.status.JournalKeys = "a", 1 })
		advanceClock(time.Hour)
		w.set(func() {
			if len(w.resumed) != 0 || len(w.repairs) != 0 {
				t.Errorf("resumed at %v, repaired at %v", w.resumed, w.repairs)
			}
		})
	})
}

func TestTombstonesArePurgedHourly(t *testing.T) {
	t.Parallel()
	runMaintainer(t, phases.Grace, func(w *fakeStores) {
		advanceClock(150 * time.Minute)
		w.set(func() {
			if len(w.purged) != 3 {
				t.Errorf("purged at %v", w.purged)
			}
		})
	})
}

// TestStateIsMaintainedEveryTenSeconds: also while authority moves, and with a backoff
// while it fails.
func TestStateIsMaintainedEveryTenSeconds(t *testing.T) {
	t.Parallel()
	for _, phase := range []phases.Phase{phases.Legacy, phases.Fenced} {
		runMaintainer(t, phase, func(w *fakeStores) {
			advanceClock(95 * time.Second)
			w.set(func() {
				if n := len(w.maintained); n != 10 {
					t.Errorf("at %s, maintained at %v", phase, w.maintained)
				}
				w.stateErr = errors.New("the state is read-only")
			})
			advanceClock(10 * time.Minute)
			w.set(func() {
				if n := len(w.maintained); n < 30 || n > 80 {
					t.Errorf("at %s, maintained %d times", phase, n)
				}
			})
		})
	}
}

func TestStoresReopenAfterApply(t *testing.T) {
	t.Parallel()
	log := runMaintainer(t, phases.DualRead, func(w *fakeStores) {
		advanceClock(3 * time.Second)
		w.set(func() { w.status.StoredHash, w.status.JournalKeys = "unknown", 1 })
		advanceClock(3 * time.Second)
		w.set(func() {
			if len(w.repairs) != 0 {
				t.Error("it repaired by a migration file that is not the applied one")
			}
			w.status.StoredHash = "two"
		})
		advanceClock(10 * time.Second)
		w.set(func() {
			if len(w.repairs) != 1 {
				t.Errorf("repaired at %v", w.repairs)
			}
			w.opened = w.closed + 1 // one attempt opened nothing
		})
	})
	if !strings.Contains(log, "not the applied one") {
		t.Errorf("the log lacks the reason for waiting:\n%s", log)
	}
}
