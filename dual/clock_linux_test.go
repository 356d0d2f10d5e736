package dual

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func bootTime(t *testing.T) time.Duration {
	t.Helper()
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		t.Fatal(err)
	}
	return time.Duration(ts.Nano())
}

func TestClockIsTheTimeSinceBoot(t *testing.T) {
	t.Parallel()
	c := &bootClock{origin: time.Now()}
	for range 1000 {
		low := bootTime(t)
		got := c.now()
		if high := bootTime(t); got < low-clockSlack || got > high+time.Millisecond {
			t.Fatalf("%s, want %s to %s", got, low, high)
		}
	}
}

func TestClockIncludesSuspend(t *testing.T) {
	t.Parallel()
	c := &bootClock{origin: time.Now()}
	c.now()
	// As after a suspend of a minute: the last reading's monotonic time continues
	// from where it was, the wall clock and the time since boot are ahead.
	r := *c.last.Load()
	r.offset -= time.Minute
	r.boot -= time.Minute
	c.last.Store(&r)
	if low, got := bootTime(t), c.now(); got < low-clockSlack {
		t.Fatalf("%s, and it is %s", got, low)
	}
}
