package daemon

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestNothingLeadsIsAnAlarm: after a minute in which no process has led, and not at a takeover or while the state
// can't be asked.
func TestNothingLeadsIsAnAlarm(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		type answer struct {
			led bool
			err error
		}
		var is atomic.Pointer[answer]
		is.Store(&answer{led: true})
		m := &Migration{}
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		go func() {
			_ = m.watchLeader(ctx, func(context.Context) (bool, error) { a := is.Load(); return a.led, a.err }, slog.New(slog.NewTextHandler(&log, nil)))
		}()
		after := func(d time.Duration, unled bool, what string) {
			t.Helper()
			time.Sleep(d)
			synctest.Wait()
			if m.unled.Load() != unled {
				t.Errorf("%s: nothing leads: %t", what, !unled)
			}
		}
		after(10*time.Minute, false, "led")
		is.Store(&answer{})
		after(50*time.Second, false, "a takeover")
		is.Store(&answer{led: true})
		after(time.Minute, false, "taken over")
		is.Store(&answer{})
		after(61*time.Second, false, "a minute, less a look")
		after(20*time.Second, true, "over a minute")
		is.Store(&answer{err: errors.New("the state is down")})
		after(time.Hour, true, "nothing new")
		is.Store(&answer{led: true})
		after(11*time.Second, false, "led again")
		if text := log.String(); strings.Count(text, "level=ERROR") != 1 || strings.Count(text, "leads again") != 1 {
			t.Errorf("%s", text)
		}
	})
}
