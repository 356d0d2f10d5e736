package dual

import (
	"context"
	"errors"

	"github.com/stranglerfig/migrator/dual/telemetry"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
)

var errDown = errors.New("connection refused")

// memoryFleet is a MemoryFleet, on the bubble's clock, that counts calls and misbehaves.
type memoryFleet struct {
	*MemoryFleet
	left        []string
	acks        []int64
	noHints     bool
	journals    int
	rollbacks   int
	result      *JournalResult // overrides the true result
	sent        int            // windows, repeated ones included
	noResponse  bool           // takes windows and returns an error
	stateLosses []phases.Route
	onReturn    func() // keys have been listed, and the response is on its way
}

func newFleet(r phases.Route) *memoryFleet {
	return &memoryFleet{MemoryFleet: NewMemoryFleet(r)}
}

func (f *memoryFleet) Renew(ctx context.Context, id string, acknowledged int64) (Grant, error) {
	g, err := f.MemoryFleet.Renew(ctx, id, acknowledged)
	if err == nil {
		f.do(func() { f.acks = append(f.acks, acknowledged) })
	}
	return g, err
}

func (f *memoryFleet) Leave(ctx context.Context, id string) error {
	err := f.MemoryFleet.Leave(ctx, id)
	if err == nil {
		f.do(func() { f.left = append(f.left, id) })
	}
	return err
}

func (f *memoryFleet) Journal(ctx context.Context, entries []JournalEntry) (JournalResult, error) {
	var result *JournalResult
	f.do(func() {
		f.journals++
		if f.outage == nil {
			result = f.result
		}
	})
	if result != nil {
		return *result, nil
	}
	return f.MemoryFleet.Journal(ctx, entries)
}

func (f *memoryFleet) RollBack(ctx context.Context, epoch int64, reason string) error {
	f.do(func() {
		if f.outage == nil {
			f.rollbacks++
		}
	})
	return f.MemoryFleet.RollBack(ctx, epoch, reason)
}

func (f *memoryFleet) Return(ctx context.Context, epoch int64, keys []record.Key) error {
	err := f.MemoryFleet.Return(ctx, epoch, keys)
	if f.onReturn != nil {
		f.onReturn()
	}
	return err
}

func (f *memoryFleet) Observe(ctx context.Context, lease string, windows []telemetry.Window) error {
	err := f.MemoryFleet.Observe(ctx, lease, windows)
	f.do(func() {
		if err == nil {
			f.sent += len(windows)
		}
		if f.noResponse {
			err = errDown
		}
	})
	return err
}

func (f *memoryFleet) ReportStateLoss(_ context.Context, pinned phases.Route) error {
	f.do(func() { f.stateLosses = append(f.stateLosses, pinned) })
	return errDown
}

func (f *memoryFleet) Notifications(ctx context.Context, notify func(int64)) error {
	return f.MemoryFleet.Notifications(ctx, func(epoch int64) {
		silent := false
		f.do(func() { silent = f.noHints })
		if !silent {
			notify(epoch)
		}
	})
}

// observed sums the windows that the instance reported, per series, and its timings.
func (f *memoryFleet) observed(instance string) (n, timed map[telemetry.Series]uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, timed = map[telemetry.Series]uint64{}, map[telemetry.Series]uint64{}
	for _, w := range f.windows {
		if w.Instance != instance {
			continue
		}
		for _, c := range w.Counts {
			n[c.Series] += c.N
			if c.Latency != nil {
				timed[c.Series] += c.Latency.Count()
			}
		}
	}
	return n, timed
}

// move commits a route and does not wait for instances.
func (f *memoryFleet) move(p phases.Phase, percent phases.Percent) {
	f.mu.Lock()
	call := f.set(phases.Route{Phase: p, Percent: percent})
	f.mu.Unlock()
	call()
}

func (f *memoryFleet) do(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

func (f *memoryFleet) acknowledged(i *Instance) int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	if l := f.leases[i.pinned.Load().lease.id]; l != nil {
		return l.acknowledged
	}
	return -1
}
