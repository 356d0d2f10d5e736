package capture

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stranglerfig/migrator/store"
)

type clockOnly struct{ store.TargetRecords }

func (clockOnly) Now(context.Context) (time.Time, error) { return time.Now(), nil }

type lockOnly struct {
	Ledger

	err error
}

func (l *lockOnly) Held(context.Context) error { return l.err }

// TestAPermitIsRenewedInTime: what is sent under one has half of the not-after left at least, and a process that has lost
// the lock gets none.
func TestAPermitIsRenewedInTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		lock := &lockOnly{}
		a := applier{Capture: &Capture{Target: clockOnly{}, Ledger: lock, NotAfter: 10 * time.Second}}
		for range 60 {
			until, err := a.permit(t.Context())
			if left := time.Until(until); err != nil || left < a.NotAfter/2 || left > a.NotAfter {
				t.Fatalf("a permit for %s, %v", left, err)
			}
			time.Sleep(500 * time.Millisecond)
		}
		lock.err = errors.New("another process has it")
		time.Sleep(a.NotAfter / 2)
		if _, err := a.permit(t.Context()); !errors.Is(err, errNotHeld) {
			t.Errorf("without the lock: %v", err)
		}
	})
}
