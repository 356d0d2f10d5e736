package dual

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/store"
)

// FaultKind is what goes wrong with the target.
type FaultKind string

// The kinds of faults.
const (
	FaultLatency   FaultKind = "latency"   // it answers later, by Delay
	FaultErrors    FaultKind = "errors"    // it fails
	FaultBlackHole FaultKind = "blackhole" // it does not answer for Delay, nor after it
	FaultCorrupt   FaultKind = "corrupt"   // it says that it has a write, and has something else
)

// FaultKinds are all of them.
var FaultKinds = []FaultKind{FaultLatency, FaultErrors, FaultBlackHole, FaultCorrupt}

// Fault is a failure of the target that an instance plays, so that a rollback can be
// rehearsed. It acts where legacy follows, from shadow-write to grace, and nowhere else.
type Fault struct {
	ID     string // "": there is none
	Kind   FaultKind
	Share  phases.Percent // of the operations that it is for
	Delay  time.Duration  // of FaultLatency; of FaultBlackHole, for a caller that sets no time itself
	Reads  bool           // it is for reads of the target; never of FaultCorrupt
	Writes bool           // it is for changes of the target
	For    time.Duration  // how much longer, from before it was asked for: it ends by itself
}

// FaultReport is what an instance tells of the fault that it knows.
type FaultReport struct {
	ID       string // "": it knows none
	Executed uint64 // operations that it was played on
	FirstAge time.Duration
	Over     bool // it is not played any more, and this is all that came of it
}

// FaultSwitch is a Fleet that hands out the migration's fault. It is asked only by
// instances whose Config says so.
type FaultSwitch interface {
	// Fault takes the instance's report and returns the fault in force; one without ID
	// if there is none.
	Fault(ctx context.Context, lease string, told FaultReport) (Fault, error)
}

// activeFault is a fault in force, with what came of it.
type activeFault struct {
	Fault
	until    time.Duration // by the instance's clock
	executed atomic.Uint64
	first    atomic.Int64 // by the instance's clock
}

func (p *activeFault) report(now time.Duration) FaultReport {
	if p == nil {
		return FaultReport{}
	}
	r := FaultReport{ID: p.ID, Executed: p.executed.Load()}
	if r.Executed > 0 {
		r.FirstAge = now - time.Duration(p.first.Load())
	}
	return r
}

// askFault tells the state what came of the present fault and learns of the next.
// Without an answer the present one goes on until its own end.
func (i *Instance) askFault(ctx context.Context, lease string) {
	s, ok := i.fleet.(FaultSwitch)
	if !i.set.Faults || !ok {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, phases.RequestMost)
	defer cancel()
	var over *activeFault // until the state knows what came of it
	for {
		known := i.fault.Load()
		sent := i.clock()
		told := known.report(sent)
		if known == nil && over != nil {
			told = over.report(sent)
			told.Over = true
		}
		f, err := s.Fault(ctx, lease, told)
		switch {
		case err != nil:
			i.log.Warn("the state could not be asked for a fault", "error", err, hint.Attr(err))
			return
		case known != nil && f.ID == known.ID || known == nil && f.ID == "":
			return
		case f.ID == "":
			i.fault.Store(nil)
			over = known
			i.log.Warn("the fault is over", "fault", known.ID, "executed", known.executed.Load())
		default:
			i.fault.Store(&activeFault{Fault: f, until: sent + f.For})
			i.log.Warn("a fault of the target is played, for a drill", "fault", f.ID, "kind", string(f.Kind), "share", f.Share.String())
		}
	}
}

// activeFault decides whether the fault in force is for this operation, and counts it then.
func (i *Instance) activeFault(read bool) *activeFault {
	p := i.fault.Load()
	switch {
	case p == nil, read && !p.Reads, !read && !p.Writes, !p.Share.Takes(rand.Uint64()):
		return nil
	}
	now := i.clock()
	// Where the target alone has a record, nothing may go wrong with it for a rehearsal.
	if w := i.pinned.Load().writes; now >= p.until || w != phases.WritesBackground && w != phases.WritesBoth {
		return nil
	}
	if p.first.CompareAndSwap(0, int64(now)) {
		defer i.ask() // the state is told of the first one at once
	}
	p.executed.Add(1)
	return p
}

// errPlayed is a failure that a drill has asked for.
var errPlayed = errors.New("a failure played for a drill")

type playedTimeout struct{}

func (playedTimeout) Error() string { return "no answer: a black hole played for a drill" }
func (playedTimeout) Timeout() bool { return true }

// inject is what the fault does before the target is asked.
func (p *activeFault) inject(ctx context.Context) error {
	switch {
	case p == nil, p.Kind == FaultCorrupt:
		return nil
	case p.Kind == FaultErrors:
		return errPlayed
	case !pause(ctx, p.Delay):
		if err := ctx.Err(); err != nil {
			return err
		}
		return playedTimeout{} // a detached context may not say yet that it is over
	case p.Kind == FaultLatency:
		return nil
	default:
		return playedTimeout{}
	}
}

// withFaults is the target itself unless the instance may play faults: production
// pays nothing for what staging can do.
func withFaults[K comparable, V any](i *Instance, t Target[K, V], spoil func(V) V) Target[K, V] {
	if _, ok := i.fleet.(FaultSwitch); !ok || !i.set.Faults {
		return t
	}
	f := failing[K, V]{Target: t, i: i, spoil: spoil}
	if batch, ok := t.(BatchTarget[K, V]); ok {
		return failingBatch[K, V]{f, batch}
	}
	return f
}

// failing is a target that fails when it is told to.
type failing[K comparable, V any] struct {
	Target[K, V]
	i     *Instance
	spoil func(V) V
}

func (f failing[K, V]) Get(ctx context.Context, key K) (Versioned[V], error) {
	if err := f.i.activeFault(true).inject(ctx); err != nil {
		return Versioned[V]{}, fmt.Errorf("read the target: %w", err)
	}
	return f.Target.Get(ctx, key)
}

func (f failing[K, V]) Apply(ctx context.Context, c Change[K, V], o ApplyOptions) (store.Result, error) {
	p := f.i.activeFault(false)
	if err := p.inject(ctx); err != nil {
		return store.Result{}, fmt.Errorf("write the target: %w", err)
	}
	if p != nil && p.Kind == FaultCorrupt {
		if c.Deleted {
			return store.Result{Outcome: store.Applied, Version: c.Version}, nil
		}
		c = f.spoiled(c)
	}
	return f.Target.Apply(ctx, c, o)
}

// spoiled is a change that looks like the one that was asked for to everybody but a
// comparison: its version is right. Where nobody has said how a value is spoiled, the
// record goes missing.
func (f failing[K, V]) spoiled(c Change[K, V]) Change[K, V] {
	if f.spoil == nil {
		c.Deleted = true
		return c
	}
	c.Value = f.spoil(c.Value)
	return c
}

// failingBatch is failing for a target that takes several changes at once: they fail
// together, and each is spoiled by itself.
type failingBatch[K comparable, V any] struct {
	failing[K, V]
	batch BatchTarget[K, V]
}

func (f failingBatch[K, V]) ApplyAll(ctx context.Context, all []Change[K, V], o ApplyOptions) ([]store.Result, error) {
	p := f.i.activeFault(false)
	if err := p.inject(ctx); err != nil {
		return nil, fmt.Errorf("write the target: %w", err)
	}
	if p == nil || p.Kind != FaultCorrupt {
		return f.batch.ApplyAll(ctx, all, o)
	}
	spoiled := make([]Change[K, V], 0, len(all))
	for _, c := range all {
		if !c.Deleted {
			spoiled = append(spoiled, f.spoiled(c))
		}
	}
	results, err := f.batch.ApplyAll(ctx, spoiled, o)
	if err != nil || len(results) != len(spoiled) {
		return results, err
	}
	answers := make([]store.Result, len(all))
	for n, c := range all {
		if c.Deleted {
			answers[n] = store.Result{Outcome: store.Applied, Version: c.Version}
			continue
		}
		answers[n], results = results[0], results[1:]
	}
	return answers, nil
}
