package dual

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/stranglerfig/migrator/dual/telemetry"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
)

var errDown = errors.New("connection refused")

// memoryFleet keeps the promises of Fleet in memory, on the bubble's clock.
type memoryFleet struct {
	mu          sync.Mutex
	route       phases.Route
	history     []phases.Route
	leases      map[string]*memoryLease
	journal     map[record.Key]record.Version
	returned    map[record.Key]int
	left        []string
	acks        []int64
	hints       map[int]func(int64)
	serial      int
	down        bool
	noHints     bool
	era         uint32
	reversible  bool
	journals    int
	rollbacks   int
	ttl         time.Duration
	result      *JournalResult // overrides the true result
	windows     []telemetry.Window
	sent        int  // windows, repeated ones included
	noResponse  bool // takes windows and returns an error
	stateLosses []phases.Route
	hash        string
}

type memoryLease struct {
	instance     string
	acknowledged int64
	expires      time.Time
}

func newFleet(r phases.Route) *memoryFleet {
	if r.Epoch == 0 {
		r.Epoch = 1
	}
	return &memoryFleet{
		route: r, history: []phases.Route{r}, leases: map[string]*memoryLease{}, journal: map[record.Key]record.Version{},
		returned: map[record.Key]int{}, hints: map[int]func(int64){}, ttl: 15 * time.Second, reversible: true, era: 7,
	}
}

func (f *memoryFleet) grant(id string) Grant {
	return Grant{Lease: id, Instance: f.leases[id].instance, Route: f.route, TTL: f.ttl, Renew: f.ttl / 3, FenceEra: f.era, Reversible: f.reversible, ConfigHash: f.hash}
}

func (f *memoryFleet) Join(_ context.Context, who Identity) (Grant, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.down {
		return Grant{}, errDown
	}
	f.serial++
	id := fmt.Sprintf("lease-%d", f.serial)
	if who.Instance == "" {
		who.Instance = fmt.Sprintf("instance-%d", f.serial)
	}
	l := &memoryLease{who.Instance, f.route.Epoch, time.Now().Add(f.ttl)}
	if old := f.leases[who.Previous]; old != nil {
		l.acknowledged = min(l.acknowledged, old.acknowledged)
		delete(f.leases, who.Previous)
	}
	f.leases[id] = l
	return f.grant(id), nil
}

func (f *memoryFleet) Renew(_ context.Context, id string, acknowledged int64) (Grant, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.down {
		return Grant{}, errDown
	}
	l := f.leases[id]
	if l == nil || time.Now().After(l.expires) {
		return Grant{}, ErrLeaseLost
	}
	l.acknowledged, l.expires = max(l.acknowledged, min(acknowledged, f.route.Epoch)), time.Now().Add(f.ttl)
	f.acks = append(f.acks, acknowledged)
	return f.grant(id), nil
}

func (f *memoryFleet) Leave(_ context.Context, id string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.down {
		return errDown
	}
	delete(f.leases, id)
	f.left = append(f.left, id)
	return nil
}

// liveRoutes are the routes that an instance may still be on. A lapsed lease that still
// blocks an advance does not block an emergency rollback.
func (f *memoryFleet) liveRoutes(lapsed bool) (live []phases.Route) {
	for _, r := range f.history {
		for _, l := range f.leases {
			if r.Epoch >= l.acknowledged && (lapsed || !time.Now().After(l.expires)) {
				live = append(live, r)
				break
			}
		}
	}
	return live
}

func (f *memoryFleet) targetRead() bool {
	read := f.route.ReadsTarget()
	for _, r := range f.liveRoutes(false) {
		read = read || r.ReadsTarget()
	}
	return read
}

func (f *memoryFleet) Journal(_ context.Context, entries []JournalEntry) (JournalResult, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.journals++
	if f.down {
		return JournalResult{}, errDown
	}
	if f.result != nil {
		return *f.result, nil
	}
	r := JournalResult{Route: f.route, TargetRead: f.targetRead()}
	switch f.route.Phase {
	case phases.Fenced, phases.Lifting, phases.Retain, phases.Returning, phases.Complete:
		r.Fenced = true
		return r, nil
	}
	for _, l := range entries {
		f.journal[l.Key] = l.Version.Max(f.journal[l.Key])
	}
	return r, nil
}

func (f *memoryFleet) RollBack(_ context.Context, epoch int64, _ string) error {
	f.mu.Lock()
	if f.down {
		f.mu.Unlock()
		return errDown
	}
	f.rollbacks++
	if !f.route.ReadsTarget() || f.route.Epoch < epoch {
		f.mu.Unlock()
		return nil
	}
	call := f.set(phases.Route{Phase: phases.DualRead, Percent: phases.All})
	f.mu.Unlock()
	call()
	return nil
}

func (f *memoryFleet) TargetRead(context.Context) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.down {
		return false, errDown
	}
	return f.targetRead(), nil
}

func (f *memoryFleet) Return(_ context.Context, epoch int64, keys []record.Key) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.down {
		return errDown
	}
	if f.route.Phase != phases.Retain || f.route.Epoch != epoch {
		return ErrRouteMoved
	}
	for _, k := range keys {
		f.returned[k]++
	}
	return nil
}

func (f *memoryFleet) Observe(_ context.Context, _ string, windows []telemetry.Window) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.down {
		return errDown
	}
	for _, w := range windows {
		f.sent++
		if !slices.ContainsFunc(f.windows, func(have telemetry.Window) bool {
			return have.Incarnation == w.Incarnation && have.Sequence == w.Sequence
		}) {
			f.windows = append(f.windows, w)
		}
	}
	if f.noResponse {
		return errDown
	}
	return nil
}

func (f *memoryFleet) ReportStateLoss(_ context.Context, pinned phases.Route) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stateLosses = append(f.stateLosses, pinned)
	return errDown
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

func (f *memoryFleet) Notifications(ctx context.Context, notify func(int64)) error {
	f.mu.Lock()
	f.serial++
	at := f.serial
	f.hints[at] = notify
	f.mu.Unlock()
	<-ctx.Done()
	f.mu.Lock()
	delete(f.hints, at)
	f.mu.Unlock()
	return ctx.Err()
}

// set changes the route; the caller has locked the fleet, and calls the returned function after unlocking.
func (f *memoryFleet) set(to phases.Route) func() {
	to.Epoch = f.route.Epoch + 1
	f.route = to
	f.history = append(f.history, to)
	var hints []func(int64)
	for _, h := range f.hints {
		if !f.noHints {
			hints = append(hints, h)
		}
	}
	return func() {
		for _, h := range hints {
			h(to.Epoch)
		}
	}
}

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

func (f *memoryFleet) journaled() map[record.Key]record.Version {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.journal)
}
