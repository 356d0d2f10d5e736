package dual

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
)

var errDown = errors.New("connection refused")

// memoryFleet keeps the promises of Fleet in memory, on the bubble's clock.
type memoryFleet struct {
	mu         sync.Mutex
	route      phases.Route
	history    []phases.Route
	leases     map[string]*memoryLease
	journal    map[record.Key]record.Version
	returned   map[record.Key]int
	left       []string
	acks       []int64
	hints      map[int]func(int64)
	serial     int
	down       bool
	noHints    bool
	era        uint32
	reversible bool
	journals   int
	rescues    int
	ttl        time.Duration
	ruling     *Ruling // instead of what is true
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
	return Grant{Lease: id, Instance: f.leases[id].instance, Route: f.route, TTL: f.ttl, Renew: f.ttl / 3, FenceEra: f.era, Reversible: f.reversible}
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

// heldRoutes are those that a lease may still hold. A lapsed one that still
// blocks an advance does not block a rescue.
func (f *memoryFleet) heldRoutes(lapsed bool) (held []phases.Route) {
	for _, r := range f.history {
		for _, l := range f.leases {
			if r.Epoch >= l.acknowledged && (lapsed || !time.Now().After(l.expires)) {
				held = append(held, r)
				break
			}
		}
	}
	return held
}

func (f *memoryFleet) targetRead() bool {
	read := f.route.ReadsTarget()
	for _, r := range f.heldRoutes(false) {
		read = read || r.ReadsTarget()
	}
	return read
}

func (f *memoryFleet) Journal(_ context.Context, lost []Lost) (Ruling, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.journals++
	if f.down {
		return Ruling{}, errDown
	}
	if f.ruling != nil {
		return *f.ruling, nil
	}
	r := Ruling{Route: f.route, TargetRead: f.targetRead()}
	switch f.route.Phase {
	case phases.Fenced, phases.Lifting, phases.Retain, phases.Returning, phases.Complete:
		r.Fenced = true
		return r, nil
	}
	for _, l := range lost {
		f.journal[l.Key] = l.Version.Max(f.journal[l.Key])
	}
	return r, nil
}

func (f *memoryFleet) Rescue(_ context.Context, epoch int64, _ string) error {
	f.mu.Lock()
	if f.down {
		f.mu.Unlock()
		return errDown
	}
	f.rescues++
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

func (f *memoryFleet) Hints(ctx context.Context, hint func(int64)) error {
	f.mu.Lock()
	f.serial++
	at := f.serial
	f.hints[at] = hint
	f.mu.Unlock()
	<-ctx.Done()
	f.mu.Lock()
	delete(f.hints, at)
	f.mu.Unlock()
	return ctx.Err()
}

// set changes the route, with the lock held; the caller calls what it returns without it.
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
	if l := f.leases[i.held.Load().lease.id]; l != nil {
		return l.acknowledged
	}
	return -1
}

func (f *memoryFleet) journalled() map[record.Key]record.Version {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.journal)
}

// memoryTarget is a versioned store of numbers.
type memoryTarget struct {
	mu      sync.Mutex
	entries map[int]Versioned[int]
	foreign map[int]bool
	broken  error
	applies int
	last    ApplyOptions
	ahead   time.Duration // of the target's clock
	// Called without the lock before the store acts, and after it, before it answers.
	onGet, onApply func(ctx context.Context) error
	afterGet       func()
	afterApply     func() error
}

func newTarget() *memoryTarget {
	return &memoryTarget{entries: map[int]Versioned[int]{}, foreign: map[int]bool{}}
}

func (t *memoryTarget) do(change func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	change()
}

func (t *memoryTarget) Get(ctx context.Context, k int) (Versioned[int], error) {
	t.mu.Lock()
	hook, after := t.onGet, t.afterGet
	t.mu.Unlock()
	if hook != nil {
		if err := hook(ctx); err != nil {
			return Versioned[int]{}, err
		}
	}
	t.mu.Lock()
	e, err := t.entries[k], t.broken
	t.mu.Unlock()
	if after != nil {
		after()
	}
	return e, err
}

func (t *memoryTarget) Apply(ctx context.Context, c Change[int, int], o ApplyOptions) (record.Result, error) {
	t.mu.Lock()
	hook, after := t.onApply, t.afterApply
	t.mu.Unlock()
	if hook != nil {
		if err := hook(ctx); err != nil {
			return record.Result{}, err
		}
	}
	r, err := t.apply(c, o)
	if after != nil && err == nil {
		err = after()
	}
	return r, err
}

func (t *memoryTarget) apply(c Change[int, int], o ApplyOptions) (record.Result, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.applies++
	t.last = o
	e := t.entries[c.Key]
	r := record.Result{Version: e.Version}
	switch {
	case t.broken != nil:
		return r, t.broken
	case !o.NotAfter.IsZero() && time.Now().Add(t.ahead).After(o.NotAfter):
		r.Outcome = record.Late
	case t.foreign[c.Key]:
		r.Outcome = record.Foreign
	case o.Only != nil && *o.Only != e.Version:
		r.Outcome = record.Changed
	case o.Only == nil && !c.Version.NewerThan(e.Version):
		r.Outcome = record.Older
	default:
		r.Outcome, r.Version = record.Applied, c.Version
		v := Versioned[int]{Version: c.Version}
		if !c.Deleted {
			v.Value, v.Found = c.Value, true
		}
		t.entries[c.Key] = v
	}
	return r, nil
}

func (t *memoryTarget) Now(context.Context) (time.Time, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return time.Now().Add(t.ahead), t.broken
}

func (t *memoryTarget) value(k int) (int, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.entries[k].Value, t.entries[k].Found
}

// memoryLegacy gives each write the next version.
type memoryLegacy struct {
	mu     sync.Mutex
	values map[int]int
	lsn    uint64
	fenced bool
	reads  int
	after  func() // a write has committed
}

func newLegacy() *memoryLegacy { return &memoryLegacy{values: map[int]int{}} }

func (l *memoryLegacy) read(_ context.Context, k int) (int, bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reads++
	v, ok := l.values[k]
	return v, ok, nil
}

func (l *memoryLegacy) put(k, v int) func(context.Context) (record.Version, error) {
	return func(context.Context) (record.Version, error) {
		l.mu.Lock()
		if l.fenced {
			l.mu.Unlock()
			return record.Version{}, fmt.Errorf("update: %w", record.ErrFenced)
		}
		l.lsn++
		l.values[k] = v
		version, after := record.Version{Era: 1, Timeline: 1, LSN: l.lsn}, l.after
		l.mu.Unlock()
		if after != nil {
			after()
		}
		return version, nil
	}
}

func keyOf(k int) record.Key { return record.MakeKey(fmt.Sprint(k)) }

func same(a, b int) bool { return a == b }

// party is one instance with its stores.
type party struct {
	*Instance
	t       *testing.T
	fleet   *memoryFleet
	target  *memoryTarget
	legacy  *memoryLegacy
	reader  *Reader[int, int]
	writer  *Writer[int, int]
	skew    time.Duration // added to the instance's clock
	skewing sync.Mutex
	stop    func() error
}

func (p *party) skip(d time.Duration) {
	p.skewing.Lock()
	defer p.skewing.Unlock()
	p.skew += d
}

type adjust struct {
	config func(*Config)
	reader func(*ReaderConfig[int, int])
	writer func(*WriterConfig[int, int])
	idle   bool // Run is not started
}

// newParty joins and runs an instance; inside a bubble.
func newParty(t *testing.T, f *memoryFleet, target *memoryTarget, legacy *memoryLegacy, a adjust) *party {
	t.Helper()
	p := &party{t: t, fleet: f, target: target, legacy: legacy}
	began := time.Now()
	c := Config{Fleet: f, Clock: func() time.Duration {
		p.skewing.Lock()
		defer p.skewing.Unlock()
		return time.Hour + time.Since(began) + p.skew
	}}
	if a.config != nil {
		a.config(&c)
	}
	var err error
	if p.Instance, err = Join(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	rc := ReaderConfig[int, int]{Instance: p.Instance, Legacy: legacy.read, Target: target, Key: keyOf, Equal: same, NoShadow: true}
	if a.reader != nil {
		a.reader(&rc)
	}
	if p.reader, err = NewReader(rc); err != nil {
		t.Fatal(err)
	}
	wc := WriterConfig[int, int]{Instance: p.Instance, Target: target, Key: keyOf}
	if a.writer != nil {
		a.writer(&wc)
	}
	if p.writer, err = NewWriter(wc); err != nil {
		t.Fatal(err)
	}
	if a.idle {
		p.stop = func() error { return nil }
		return p
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	p.stop = sync.OnceValue(func() error {
		cancel()
		return <-done
	})
	return p
}

func (p *party) put(k, v int) error {
	return p.writer.Put(p.t.Context(), k, v, p.legacy.put(k, v))
}

func (p *party) mustPut(k, v int) {
	p.t.Helper()
	if err := p.put(k, v); err != nil {
		p.t.Fatalf("put %d: %v", k, err)
	}
}

func (p *party) get(k int) int {
	p.t.Helper()
	v, _, err := p.reader.Get(p.t.Context(), k)
	if err != nil {
		p.t.Fatalf("get %d: %v", k, err)
	}
	return v
}
