//go:build unix

package torture

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/dual/pgfleet"
	"github.com/stranglerfig/migrator/store"
)

// breakage is a defect built into an instance, to show that the run detects it.
type breakage string

const (
	sound breakage = ""
	// dropsWrites acknowledges one write to the target in eight without making it, while reads
	// come from there.
	dropsWrites breakage = "drops writes"
	// stoppedClock never sees its lease expire: resumed after a freeze, it reads the target
	// although the fleet has moved on.
	stoppedClock breakage = "stopped clock"
	// earlyAck acknowledges an epoch as soon as it receives it, with operations under older
	// epochs still in flight.
	earlyAck breakage = "hasty"
)

func (b breakage) fleet(f *pgfleet.Fleet) dual.Fleet {
	if b == earlyAck {
		return &earlyAckFleet{recordingFleet: recordingFleet{f}}
	}
	return recordingFleet{f}
}

type earlyAckFleet struct {
	recordingFleet
	newestEpoch atomic.Int64
}

func (f *earlyAckFleet) Renew(ctx context.Context, lease string, acknowledged int64) (dual.Grant, error) {
	g, err := f.recordingFleet.Renew(ctx, lease, max(acknowledged, f.newestEpoch.Load()))
	f.newestEpoch.Store(g.Route.Epoch)
	return g, err
}

func (b breakage) config(c *dual.Config) {
	if b == stoppedClock {
		c.Clock = func() time.Duration { return time.Hour }
	}
}

func (b breakage) target(i *dual.Instance, t dual.Target[int64, cell]) dual.Target[int64, cell] {
	if b == dropsWrites {
		return &dropping{Target: t, instance: i}
	}
	return t
}

type dropping struct {
	dual.Target[int64, cell]
	instance *dual.Instance
	writes   atomic.Int64
}

func (d *dropping) Apply(ctx context.Context, c dual.Change[int64, cell], o dual.ApplyOptions) (store.Result, error) {
	if route := d.instance.Route(); route.ReadsTarget() && d.writes.Add(1)%8 == 0 {
		return store.Result{Outcome: store.Applied}, nil
	}
	return d.Target.Apply(ctx, c, o)
}
