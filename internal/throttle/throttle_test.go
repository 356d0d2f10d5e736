package throttle_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stranglerfig/migrator/internal/throttle"
	"github.com/stranglerfig/migrator/store"
)

// world has what a throttle reads. All of it is under mu.
type world struct {
	mu      sync.Mutex
	limits  throttle.Limits
	load    store.Load
	latency time.Duration
	err     error
}

func (w *world) set(change func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change()
}

func (w *world) Limits(context.Context) (throttle.Limits, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.limits, nil
}

func (w *world) Load(context.Context) (store.Load, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.load, w.err
}

func (w *world) Now(context.Context) (time.Time, error) {
	w.mu.Lock()
	latency := w.latency
	w.mu.Unlock()
	time.Sleep(latency)
	return time.Now(), nil
}

func (w *world) start(t *testing.T) *throttle.Throttle {
	t.Helper()
	th := &throttle.Throttle{Limits: w.Limits, Legacy: w, Target: w}
	stop, err := th.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	return th
}

func TestALimitHoldsUntilItIsKeptOrRaised(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		limits      throttle.Limits
		above, well func(*world)
		why         string
	}{
		"lag": {
			throttle.Limits{StandbyLag: 10 * time.Second},
			func(w *world) { w.load.StandbyLag = 12 * time.Second },
			func(w *world) { w.load.StandbyLag = 10 * time.Second }, "standby lag 12s > 10s",
		},
		"bytes": {
			throttle.Limits{StandbyBytes: 10 << 20},
			func(w *world) { w.load.StandbyBytes = 12 << 20 },
			func(w *world) { w.limits.StandbyBytes = 12 << 20 }, "standby lag 12 MiB > 10 MiB",
		},
		"sessions": {
			throttle.Limits{Sessions: 5},
			func(w *world) { w.load.Sessions = 6 },
			func(w *world) { w.limits.Sessions = 0 }, "active sessions of legacy 6 > 5",
		},
		"latency": {
			throttle.Limits{TargetLatency: 5 * time.Millisecond},
			func(w *world) { w.latency = 6 * time.Millisecond },
			func(w *world) { w.latency = time.Millisecond }, "target latency 6ms > 5ms",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := &world{limits: c.limits}
				th := w.start(t)
				if err := th.Hold(t.Context()); err != nil || th.Status().Holds != 0 {
					t.Fatal(err, th.Status())
				}
				w.set(func() { c.above(w) })
				time.Sleep(3 * time.Second)
				if s := th.Status(); s.Why != c.why || s.Holds != 1 {
					t.Errorf("%+v, want %s", s, c.why)
				}
				began := time.Now()
				go func() {
					time.Sleep(10 * time.Second)
					w.set(func() { c.well(w) })
				}()
				if err := th.Hold(t.Context()); err != nil {
					t.Fatal(err)
				}
				if took := time.Since(began); took < 10*time.Second || took > 12*time.Second {
					t.Errorf("it was held for %s", took)
				}
				if s := th.Status(); s.Why != "" || s.Held < 10*time.Second || s.Held > 15*time.Second {
					t.Errorf("%+v", s)
				}
			})
		})
	}
}

func TestAnotherRateActsOnAWaitThatHasBegun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &world{limits: throttle.Limits{Rate: 10}}
		th := w.start(t)
		began := time.Now()
		go func() {
			time.Sleep(10 * time.Second)
			w.set(func() { w.limits.Rate = 1000 })
		}()
		if err := th.Wait(t.Context(), 3000); err != nil {
			t.Fatal(err)
		}
		// 100 rows in 10 s, and the others in about 3.
		if took := time.Since(began); took < 12*time.Second || took > 16*time.Second {
			t.Errorf("it took %s", took)
		}
		w.set(func() { w.limits.Rate = 0 })
		time.Sleep(2 * time.Second)
		began = time.Now()
		if err := th.Wait(t.Context(), 1_000_000); err != nil || time.Since(began) != 0 {
			t.Errorf("%v after %s", err, time.Since(began))
		}
	})
}

func TestWhatIsUrgentIsNotHeld(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &world{limits: throttle.Limits{Sessions: 1, Rate: 1}, load: store.Load{Sessions: 2}}
		th := w.start(t)
		go func() {
			time.Sleep(5 * time.Second)
			th.Urgent(true)
		}()
		began := time.Now()
		if err := errors.Join(th.Hold(t.Context()), th.Wait(t.Context(), 1000)); err != nil || time.Since(began) != 5*time.Second {
			t.Errorf("%v after %s", err, time.Since(began))
		}
		th.Urgent(false)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := th.Hold(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
	})
}

func TestWhatCanNotBeReadChangesNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &world{limits: throttle.Limits{StandbyLag: time.Second}, load: store.Load{StandbyLag: 2 * time.Second}}
		th := w.start(t)
		w.set(func() { w.err, w.load.StandbyLag = errors.New("no answer"), 0 })
		time.Sleep(5 * time.Second)
		if s := th.Status(); s.Why == "" || s.Error != "no answer" {
			t.Errorf("%+v", s)
		}
		w.set(func() { w.err = nil })
		time.Sleep(2 * time.Second)
		if s := th.Status(); s.Why != "" || s.Error != "" {
			t.Errorf("%+v", s)
		}
	})
}

func TestAThrottleThatIsBlindFromTheStartIsRefused(t *testing.T) {
	t.Parallel()
	w := &world{limits: throttle.Limits{Sessions: 5}, load: store.Load{Sessions: -1}}
	for want, th := range map[string]*throttle.Throttle{
		"GRANT pg_read_all_stats": {Limits: w.Limits, Legacy: w, Target: w},
		"does not report":         {Limits: w.Limits, Target: w},
	} {
		if _, err := th.Start(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	var none *throttle.Throttle
	stop, err := none.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	stop()
	if err := errors.Join(none.Hold(t.Context()), none.Wait(t.Context(), 5)); err != nil || none.Status() != (throttle.Status{}) {
		t.Error(err)
	}
}
