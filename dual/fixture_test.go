package dual

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

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

func (t *memoryTarget) Apply(ctx context.Context, c Change[int, int], o ApplyOptions) (store.Result, error) {
	t.mu.Lock()
	hook, after := t.onApply, t.afterApply
	t.mu.Unlock()
	if hook != nil {
		if err := hook(ctx); err != nil {
			return store.Result{}, err
		}
	}
	r, err := t.apply(c, o)
	if after != nil && err == nil {
		err = after()
	}
	return r, err
}

func (t *memoryTarget) apply(c Change[int, int], o ApplyOptions) (store.Result, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.applies++
	t.last = o
	e := t.entries[c.Key]
	r := store.Result{Version: e.Version}
	switch {
	case t.broken != nil:
		return r, t.broken
	case !o.NotAfter.IsZero() && time.Now().Add(t.ahead).After(o.NotAfter):
		r.Outcome = store.Late
	case t.foreign[c.Key]:
		r.Outcome = store.Foreign
	case o.IfVersion != nil && *o.IfVersion != e.Version:
		r.Outcome = store.Changed
	case o.IfVersion == nil && !c.Version.NewerThan(e.Version):
		r.Outcome = store.Older
	default:
		r.Outcome, r.Version = store.Applied, c.Version
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
	locks  int    // locked reads
	broken error  // of reads
	after  func() // a write has committed
}

func newLegacy() *memoryLegacy { return &memoryLegacy{values: map[int]int{}} }

func (l *memoryLegacy) read(_ context.Context, k int) (int, bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reads++
	v, ok := l.values[k]
	if l.broken != nil {
		return 0, false, l.broken
	}
	return v, ok, nil
}

func (l *memoryLegacy) put(k, v int) func(context.Context) (record.Version, error) {
	return func(context.Context) (record.Version, error) {
		l.mu.Lock()
		if l.fenced {
			l.mu.Unlock()
			return record.Version{}, fmt.Errorf("update: %w", store.ErrFenced)
		}
		l.lsn++
		l.values[k] = v
		version, after := record.MakeVersion(1, 1, l.lsn), l.after
		l.mu.Unlock()
		if after != nil {
			after()
		}
		return version, nil
	}
}

// locked reads a record as under its row's lock.
func (l *memoryLegacy) locked(_ context.Context, k int) (Versioned[int], error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.locks++
	l.lsn++
	v, ok := l.values[k]
	if l.broken != nil || !ok {
		return Versioned[int]{}, l.broken
	}
	return Versioned[int]{v, true, record.MakeVersion(1, 1, l.lsn)}, nil
}

func keyOf(k int) record.Key { return record.MakeKey(fmt.Sprint(k)) }

func same(a, b int) bool { return a == b }

// testInstance is one instance with its stores.
type testInstance struct {
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

func (p *testInstance) skip(d time.Duration) {
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

// newTestInstance joins and runs an instance; inside a bubble.
func newTestInstance(t *testing.T, f *memoryFleet, target *memoryTarget, legacy *memoryLegacy, a adjust) *testInstance {
	t.Helper()
	p := &testInstance{t: t, fleet: f, target: target, legacy: legacy}
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
	t.Cleanup(func() { // a bubble must not end before its goroutines
		p.pinned.Load().cancel()
		for p.reader.shadows.Load() > 0 {
			time.Sleep(time.Millisecond)
		}
	})
	wc := WriterConfig[int, int]{Instance: p.Instance, Legacy: legacy.read, Target: target, Key: keyOf}
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

func (p *testInstance) put(k, v int) error {
	return p.writer.Put(p.t.Context(), k, v, p.legacy.put(k, v))
}

func (p *testInstance) mustPut(k, v int) {
	p.t.Helper()
	if err := p.put(k, v); err != nil {
		p.t.Fatalf("put %d: %v", k, err)
	}
}

func (p *testInstance) get(k int) int {
	p.t.Helper()
	v, _, err := p.reader.Get(p.t.Context(), k)
	if err != nil {
		p.t.Fatalf("get %d: %v", k, err)
	}
	return v
}
