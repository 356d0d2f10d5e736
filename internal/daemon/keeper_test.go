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
	"github.com/stranglerfig/migrator/phases"
)

// world is a migration and its stores, as far as a keeper's clock is concerned:
// what it does to real ones is tested where the daemon is put together.
type world struct {
	mu       sync.Mutex
	standing phases.Status
	down     error // of the target
	unwell   error // of the state
	opened   int
	closed   int
	repairs  []time.Duration // when, since the beginning
	resumed  []time.Duration
	purged   []time.Duration
	tended   []time.Duration
	began    time.Time
}

func (w *world) set(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

func (w *world) Status(context.Context, string) (phases.Status, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.standing, nil
}

func (w *world) Snapshot(ctx context.Context, m string) (phases.Snapshot, error) {
	st, err := w.Status(ctx, m)
	return phases.Snapshot{Now: time.Now(), Status: st}, err
}

func (w *world) note(at *[]time.Duration, done func() int64) (int64, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	*at = append(*at, time.Since(w.began))
	if w.down != nil {
		return 0, w.down
	}
	return done(), nil
}

func (w *world) RepairJournal(context.Context) (int64, error) {
	return w.note(&w.repairs, func() int64 {
		n := w.standing.JournalKeys
		w.standing.JournalKeys = 0
		return n
	})
}

func (w *world) Resume(context.Context) error {
	_, err := w.note(&w.resumed, func() int64 {
		w.standing.Route = phases.Route{Phase: phases.Grace, Epoch: w.standing.Route.Epoch + 2}
		w.standing.Attempt = ""
		return 0
	})
	return err
}

func (w *world) Purge(context.Context) (int64, error) {
	return w.note(&w.purged, func() int64 { return 3 })
}

func (w *world) Close() { w.set(func() { w.closed++ }) }

// kept runs a keeper over the world while f plays, in a bubble of its own time.
func kept(t *testing.T, phase phases.Phase, f func(w *world)) (log string) {
	t.Helper()
	var out bytes.Buffer
	synctest.Test(t, func(t *testing.T) {
		w := &world{began: time.Now(), standing: phases.Status{
			Migration: "m", Route: phases.Route{Phase: phase, Epoch: 5}, RouteSince: time.Now(), ConfigHash: "one",
		}}
		k := daemon.Maintainer{
			Migration: "m", State: w, Budget: 7 * time.Second, Log: slog.New(slog.NewTextHandler(&out, nil)),
			Open: func(_ context.Context, hash string) (daemon.Stores, error) {
				w.set(func() { w.opened++ })
				if hash == "unknown" {
					return nil, errors.New("the description is not the applied one")
				}
				return w, nil
			},
			MaintainState: func(context.Context) error {
				w.mu.Lock()
				defer w.mu.Unlock()
				w.tended = append(w.tended, time.Since(w.began))
				return w.unwell
			},
		}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- k.Run(ctx) }()
		f(w)
		stop()
		if err := <-ended; err != nil {
			t.Errorf("it ended with %v", err)
		}
		if w.opened != w.closed && w.standing.ConfigHash != "unknown" {
			t.Errorf("the stores were opened %d times and closed %d times", w.opened, w.closed)
		}
	})
	return out.String()
}

func passes(d time.Duration) {
	time.Sleep(d) // of the bubble's clock
	synctest.Wait()
}

func TestTheJournalIsRepairedWithPausesWhileTheTargetIsDown(t *testing.T) {
	t.Parallel()
	log := kept(t, phases.DualRead, func(w *world) {
		passes(10 * time.Second)
		w.set(func() { w.down, w.standing.JournalKeys = errors.New("connection refused"), 12 })
		passes(10 * time.Minute)
		w.set(func() {
			if n := len(w.repairs); n < 40 || n > 100 {
				t.Errorf("%d attempts in ten minutes", n)
			}
			w.down = nil
		})
		passes(15 * time.Second)
		w.set(func() {
			if w.standing.JournalKeys != 0 {
				t.Error("the journal is not repaired")
			}
		})
	})
	if n := strings.Count(log, `msg=failed`); n != 1 {
		t.Errorf("the failure was told %d times", n)
	}
	for _, want := range []string{`msg="works again"`, `keys=12`, "connection refused"} {
		if !strings.Contains(log, want) {
			t.Errorf("the log does not say %s:\n%s", want, log)
		}
	}
}

func TestAnAbandonedFenceIsUndoneAfterItsBudget(t *testing.T) {
	t.Parallel()
	for _, phase := range []phases.Phase{phases.Fenced, phases.Lifting, phases.Returning, phases.Grace} {
		kept(t, phase, func(w *world) {
			w.set(func() { w.standing.Attempt, w.standing.JournalKeys = "a", 1 })
			passes(11 * time.Second)
			w.set(func() {
				if len(w.resumed) != 0 || len(w.repairs) != 0 {
					t.Errorf("%s: resumed at %v, repaired at %v", phase, w.resumed, w.repairs)
				}
			})
			passes(3 * time.Second)
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

func TestRetainIsLeftAlone(t *testing.T) {
	t.Parallel()
	kept(t, phases.Retain, func(w *world) {
		w.set(func() { w.standing.Attempt, w.standing.JournalKeys = "a", 1 })
		passes(time.Hour)
		w.set(func() {
			if len(w.resumed) != 0 || len(w.repairs) != 0 {
				t.Errorf("resumed at %v, repaired at %v", w.resumed, w.repairs)
			}
		})
	})
}

func TestTombstonesArePurgedEachHour(t *testing.T) {
	t.Parallel()
	kept(t, phases.Grace, func(w *world) {
		passes(150 * time.Minute)
		w.set(func() {
			if len(w.purged) != 3 {
				t.Errorf("purged at %v", w.purged)
			}
		})
	})
}

// TestTheStateIsTended: every ten seconds, also while authority moves, and though it fails.
func TestTheStateIsTended(t *testing.T) {
	t.Parallel()
	for _, phase := range []phases.Phase{phases.Legacy, phases.Fenced} {
		kept(t, phase, func(w *world) {
			passes(95 * time.Second)
			w.set(func() {
				if n := len(w.tended); n != 10 {
					t.Errorf("at %s, tended at %v", phase, w.tended)
				}
				w.unwell = errors.New("the state is read-only")
			})
			passes(10 * time.Minute)
			w.set(func() {
				if n := len(w.tended); n < 30 || n > 80 {
					t.Errorf("at %s, tended %d times", phase, n)
				}
			})
		})
	}
}

func TestAnotherAppliedDescriptionIsOpenedAnew(t *testing.T) {
	t.Parallel()
	log := kept(t, phases.DualRead, func(w *world) {
		passes(3 * time.Second)
		w.set(func() { w.standing.ConfigHash, w.standing.JournalKeys = "unknown", 1 })
		passes(3 * time.Second)
		w.set(func() {
			if len(w.repairs) != 0 {
				t.Error("it repaired by a description that is not the applied one")
			}
			w.standing.ConfigHash = "two"
		})
		passes(10 * time.Second)
		w.set(func() {
			if len(w.repairs) != 1 {
				t.Errorf("repaired at %v", w.repairs)
			}
			w.opened = w.closed + 1 // one attempt opened nothing
		})
	})
	if !strings.Contains(log, "not the applied one") {
		t.Errorf("it does not say why it waits:\n%s", log)
	}
}
