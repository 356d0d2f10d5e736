//go:build unix

package torture

import (
	"context"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/dual/pgfleet"
)

// word is what the instance learns of one write while it decides on it.
type targetReadCheck struct {
	read      bool // the target had not taken it, and somebody might read the target
	stillRead bool // and might still, when the instance last asked
}

type targetReadCheckKey struct{}

// exception is what an acknowledged write counts as.
func (w *targetReadCheck) exception(p dual.Policy) exception {
	switch {
	case w.read && p == dual.Degrade:
		return degraded
	case w.read && w.stillRead && p == dual.RollBack:
		return unsettled
	default:
		return ""
	}
}

// listening is a connection to the fleet that keeps what the state says to a write
// with that write: its counters are the whole instance's.
type recordingFleet struct{ *pgfleet.Fleet }

func (f recordingFleet) Journal(ctx context.Context, lost []dual.Lost) (dual.Ruling, error) {
	r, err := f.Fleet.Journal(ctx, lost)
	if w, ok := ctx.Value(targetReadCheckKey{}).(*targetReadCheck); ok && err == nil {
		w.read = r.TargetRead && !r.Fenced
		w.stillRead = w.read
	}
	return r, err
}

func (f recordingFleet) TargetRead(ctx context.Context) (bool, error) {
	read, err := f.Fleet.TargetRead(ctx)
	if w, ok := ctx.Value(targetReadCheckKey{}).(*targetReadCheck); ok {
		w.stillRead = read || err != nil
	}
	return read, err
}
