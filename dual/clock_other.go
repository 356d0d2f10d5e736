//go:build !linux

package dual

import (
	"time"

	"github.com/stranglerfig/migrator/phases"
)

// clockSlack bounds how far a reading of the clock may be behind the true time.
const clockSlack = phases.ClockSlack

var processStart = time.Now()

// defaultClock returns the greater of the monotonic time, which may stop in suspend, and
// the wall clock's, which does not. A wall clock that is set forward costs a lease, one
// that is set back costs nothing.
func defaultClock() func() time.Duration {
	return func() time.Duration {
		now := time.Now()
		return max(now.Sub(processStart), now.Round(0).Sub(processStart.Round(0)))
	}
}
