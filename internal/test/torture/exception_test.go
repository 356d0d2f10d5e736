//go:build unix

package torture

import (
	"context"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/dual/pgfleet"
)

// targetReadCheck is what the state answered about one failed write.
type targetReadCheck struct {
	read      bool // the target lacked the write, and an instance may have read the target
	stillRead bool // and still might, at the instance's last check
}

type targetReadCheckKey struct{}

// exception returns the exception that the acknowledged write counts as.
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

// recordingFleet is a connection to the fleet that records the state's answers to each write
// with that write: its own counters are of the whole instance.
type recordingFleet struct{ *pgfleet.Fleet }

func (f recordingFleet) Journal(ctx context.Context, lost []dual.JournalEntry) (dual.JournalResult, error) {
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
