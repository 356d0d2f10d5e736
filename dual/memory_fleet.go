package dual

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/stranglerfig/migrator/dual/telemetry"
	"github.com/stranglerfig/migrator/internal/humanize"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// MemoryFleet is a Fleet in this process's memory, for an application's own tests: it keeps
// the promises of pgfleet, without a database. Instances join it, follow its route and settle.
// It decides nothing (no gate, no legality of moves) and raises no fence in legacy. It
// is safe for concurrent use.
type MemoryFleet struct {
	mu         sync.Mutex
	route      phases.Route
	history    []phases.Route
	leases     map[string]*memoryLease
	moved      chan struct{} // closed at the next change of leases or route
	journal    map[record.Key]record.Version
	returned   map[record.Key]int
	hints      map[int]func(int64)
	serial     int
	outage     error
	era        uint32
	reversible bool
	ttl        time.Duration
	hash       string
	mark       store.Mark
	windows    []telemetry.Window
}

var (
	_ Fleet             = (*MemoryFleet)(nil)
	_ Notifier          = (*MemoryFleet)(nil)
	_ EmergencyRollback = (*MemoryFleet)(nil)
	_ ReturnJournal     = (*MemoryFleet)(nil)
	_ Observer          = (*MemoryFleet)(nil)
)

type memoryLease struct {
	instance     string
	acknowledged int64
	expires      time.Time
}

// NewMemoryFleet makes a fleet whose migration is on a route; an epoch of 0 is 1.
func NewMemoryFleet(r phases.Route) *MemoryFleet {
	if r.Epoch == 0 {
		r.Epoch = 1
	}
	return &MemoryFleet{
		route: r, history: []phases.Route{r}, leases: map[string]*memoryLease{}, moved: make(chan struct{}),
		journal: map[record.Key]record.Version{}, returned: map[record.Key]int{}, hints: map[int]func(int64){},
		ttl: phases.LeaseTTL, reversible: true, era: 7,
	}
}

// Route is the present route.
func (f *MemoryFleet) Route() phases.Route {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.route
}

// Move commits a route, in the next epoch, and returns when every instance follows it, or when
// ctx ends. A joined instance follows while its Run runs.
func (f *MemoryFleet) Move(ctx context.Context, p phases.Phase, percent phases.Percent) error {
	f.mu.Lock()
	notify := f.set(phases.Route{Phase: p, Percent: percent})
	epoch := f.route.Epoch
	f.mu.Unlock()
	notify()
	for {
		f.mu.Lock()
		moved, behind, expires := f.moved, 0, time.Time{}
		for _, l := range f.leases {
			// A lease that has expired is waited for too: who lets it expire does not run.
			if l.acknowledged < epoch {
				behind, expires = behind+1, l.expires
			}
		}
		f.mu.Unlock()
		if behind == 0 {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return fmt.Errorf("not followed to %s: %s (the lease of one expires at %s; does its Run run?): %w",
				p, humanize.Counted(behind, "instance"), expires.Format(time.TimeOnly), context.Cause(ctx))
		}
	}
}

// SetOutage makes every call return err, as while the state database is down; nil ends that.
func (f *MemoryFleet) SetOutage(err error) {
	f.mu.Lock()
	f.outage = err
	f.mu.Unlock()
}

// SetMark sets the mark that the target must have; instances get it with their next renewal.
func (f *MemoryFleet) SetMark(m store.Mark) {
	f.mu.Lock()
	f.mark = m
	f.mu.Unlock()
}

// Journaled are the keys whose target copy is behind, with the versions that it lacks.
func (f *MemoryFleet) Journaled() map[record.Key]record.Version {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.journal)
}

// changed wakes Move. The caller has locked the fleet.
func (f *MemoryFleet) changed() {
	close(f.moved)
	f.moved = make(chan struct{})
}

func (f *MemoryFleet) grant(id string) Grant {
	return Grant{Lease: id, Instance: f.leases[id].instance, Route: f.route, TTL: f.ttl, Renew: f.ttl / phases.RenewShare, FenceEra: f.era, Reversible: f.reversible, ConfigHash: f.hash, Mark: f.mark}
}

// Join implements Fleet.
func (f *MemoryFleet) Join(_ context.Context, who Identity) (Grant, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.outage != nil {
		return Grant{}, f.outage
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
	f.changed()
	return f.grant(id), nil
}

// Renew implements Fleet.
func (f *MemoryFleet) Renew(_ context.Context, id string, acknowledged int64) (Grant, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.outage != nil {
		return Grant{}, f.outage
	}
	l := f.leases[id]
	if l == nil || time.Now().After(l.expires) {
		return Grant{}, ErrLeaseLost
	}
	l.acknowledged, l.expires = max(l.acknowledged, min(acknowledged, f.route.Epoch)), time.Now().Add(f.ttl)
	f.changed()
	return f.grant(id), nil
}

// Leave implements Fleet.
func (f *MemoryFleet) Leave(_ context.Context, id string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.outage != nil {
		return f.outage
	}
	delete(f.leases, id)
	f.changed()
	return nil
}

// liveRoutes are the routes that an instance may still be on. A lapsed lease that still
// blocks an advance does not block an emergency rollback.
func (f *MemoryFleet) liveRoutes(lapsed bool) (live []phases.Route) {
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

func (f *MemoryFleet) targetRead() bool {
	read := f.route.ReadsTarget()
	for _, r := range f.liveRoutes(false) {
		read = read || r.ReadsTarget()
	}
	return read
}

// Journal implements Fleet.
func (f *MemoryFleet) Journal(_ context.Context, entries []JournalEntry) (JournalResult, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.outage != nil {
		return JournalResult{}, f.outage
	}
	r := JournalResult{Route: f.route, TargetRead: f.targetRead()}
	switch f.route.Phase {
	case phases.Fenced, phases.Lifting, phases.Retain, phases.Returning, phases.Complete:
		r.Fenced = true
		return r, nil
	default:
	}
	for _, l := range entries {
		f.journal[l.Key] = l.Version.Max(f.journal[l.Key])
	}
	return r, nil
}

// RollBack implements EmergencyRollback.
func (f *MemoryFleet) RollBack(_ context.Context, epoch int64, _ string) error {
	f.mu.Lock()
	if f.outage != nil {
		defer f.mu.Unlock()
		return f.outage
	}
	if !f.route.ReadsTarget() || f.route.Epoch < epoch {
		f.mu.Unlock()
		return nil
	}
	notify := f.set(phases.Route{Phase: phases.DualRead, Percent: phases.All})
	f.mu.Unlock()
	notify()
	return nil
}

// TargetRead implements EmergencyRollback.
func (f *MemoryFleet) TargetRead(context.Context) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.outage == nil && f.targetRead(), f.outage
}

// Return implements ReturnJournal.
func (f *MemoryFleet) Return(_ context.Context, epoch int64, keys []record.Key) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.outage != nil {
		return f.outage
	}
	if f.route.Phase != phases.Retain || f.route.Epoch != epoch {
		return ErrRouteMoved
	}
	for _, k := range keys {
		f.returned[k]++
	}
	return nil
}

// HasJournaled implements JournalReader.
func (f *MemoryFleet) HasJournaled(_ context.Context, key record.Key) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, has := f.journal[key]
	return has, f.outage
}

// Observe implements Observer.
func (f *MemoryFleet) Observe(_ context.Context, _ string, windows []telemetry.Window) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.outage != nil {
		return f.outage
	}
	for _, w := range windows {
		if !slices.ContainsFunc(f.windows, func(have telemetry.Window) bool {
			return have.Incarnation == w.Incarnation && have.Sequence == w.Sequence
		}) {
			f.windows = append(f.windows, w)
		}
	}
	return nil
}

// Notifications implements Notifier.
func (f *MemoryFleet) Notifications(ctx context.Context, notify func(int64)) error {
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

// set changes the route. The caller has locked the fleet, and calls the returned function
// after it has unlocked it.
func (f *MemoryFleet) set(to phases.Route) func() {
	to.Epoch = f.route.Epoch + 1
	f.route = to
	f.history = append(f.history, to)
	hints := slices.Collect(maps.Values(f.hints))
	f.changed()
	return func() {
		for _, h := range hints {
			h(to.Epoch)
		}
	}
}
