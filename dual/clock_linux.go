package dual

import (
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"github.com/stranglerfig/migrator/phases"
)

// clockSlack bounds how far a reading of bootClock may be behind the true time
// since boot. Leases end this much earlier.
// [lease-own-clock]: without it a reading that is behind would make an instance outlive its lease.
const clockSlack = phases.ClockSlack

// bootClock reads the time since boot, suspend included. CLOCK_BOOTTIME is a system call
// in Go, the two clocks of time.Now are not. Suspend moves the wall clock and not the
// monotonic one. So while their difference does not change by more than the slack, the
// last true reading plus the monotonic time since is the time since boot. Anything else
// that moves the wall clock costs one more system call.
type bootClock struct {
	origin time.Time
	last   atomic.Pointer[bootReading]
}

type bootReading struct {
	monotonic time.Duration // since origin
	offset    time.Duration // wall clock minus monotonic
	boot      time.Duration
}

var processClock = &bootClock{origin: time.Now()}

func defaultClock() func() time.Duration { return processClock.now }

func (c *bootClock) now() time.Duration {
	now := time.Now()
	monotonic := now.Sub(c.origin)
	offset := time.Duration(now.UnixNano()) - monotonic
	if r := c.last.Load(); r != nil {
		if moved := offset - r.offset; moved < clockSlack && moved > -clockSlack {
			return r.boot + monotonic - r.monotonic
		}
	}
	return c.read()
}

func (c *bootClock) read() time.Duration {
	for attempt := 0; ; attempt++ {
		before := time.Now()
		boot, ok := sinceBoot()
		if !ok {
			return time.Duration(before.UnixNano()) // runs in suspend too
		}
		monotonic := before.Sub(c.origin)
		// A pause between the two readings would count as suspend from then on.
		if time.Since(before) > time.Millisecond && attempt < 5 {
			continue
		}
		c.last.Store(&bootReading{monotonic: monotonic, offset: time.Duration(before.UnixNano()) - monotonic, boot: boot})
		return boot
	}
}

// sinceBoot asks the kernel for CLOCK_BOOTTIME. golang.org/x/sys has the same call,
// and every application that embeds the package would pay for it with a module.
func sinceBoot() (time.Duration, bool) {
	const clockBootTime = 7 // CLOCK_BOOTTIME of <linux/time.h>
	var ts syscall.Timespec
	_, _, errno := syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, clockBootTime, uintptr(unsafe.Pointer(&ts)), 0) //nolint:gosec // the kernel fills ts in
	return time.Duration(ts.Nano()), errno == 0
}
