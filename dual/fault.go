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

// FaultKind is the kind of a target's failure.
type FaultKind string

// The kinds of faults.
const (
	FaultLatency   FaultKind = "latency"   // it answers later, by Delay
	FaultErrors    FaultKind = "errors"    // it fails
	FaultBlackHole FaultKind = "blackhole" // it does not answer for Delay, nor after it
	FaultCorrupt   FaultKind = "corrupt"   // it acknowledges a write, and stores something else
)

// FaultKinds are all of them.
var FaultKinds = []FaultKind{FaultLatency, FaultErrors, FaultBlackHole, FaultCorrupt}

// Fault is a failure of the target that an instance injects, so that a rollback can be
// rehearsed. It acts only where legacy follows, from shadow-write to grace.
type Fault struct {
	ID     string // "": there is none
	Kind   FaultKind
	Share  phases.Percent // of the operations that it affects
	Delay  time.Duration  // of FaultLatency; of FaultBlackHole, for a caller that sets no time itself
	Reads  bool           // it affects reads of the target; never set for FaultCorrupt
	Writes bool           // it affects changes of the target
	For    time.Duration  // remaining time, from before the request: then it ends by itself
}

// FaultReport is an instance's report on the fault that it knows.
type FaultReport struct {
	ID       string // "": it knows none
	Executed uint64 // operations that it was injected into
	FirstAge time.Duration
	Over     bool // it has ended, and this report is final
}

// FaultSwitch is a Fleet that returns the migration's fault. Only instances with
// Config.Faults call it.
type FaultSwitch interface {
	// Fault takes the instance's report and returns the active fault; one without ID if
	// there is none.
	Fault(ctx context.Context, lease string, report FaultReport) (Fault, error)
}

// activeFault is the active fault, with its counts.
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

// askFault reports on the present fault to the state and gets the next one. Without a
// response the present one continues until its own end.
func (i *Instance) askFault(ctx context.Context, lease string) {
	s, ok := i.fleet.(FaultSwitch)
	if !i.set.Faults || !ok {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, phases.RequestMost)
	defer cancel()
	var over *activeFault // until the state has its final report
	for {
		known := i.fault.Load()
		sent := i.clock()
		report := known.report(sent)
		if known == nil && over != nil {
			report = over.report(sent)
			report.Over = true
		}
		f, err := s.Fault(ctx, lease, report)
		switch {
		case err != nil:
			i.log.Warn("fault request failed", "error", err, hint.Attr(err))
			return
		case known != nil && f.ID == known.ID || known == nil && f.ID == "":
			return
		case f.ID == "":
			i.fault.Store(nil)
			over = known
			i.log.Warn("fault ended", "fault", known.ID, "executed", known.executed.Load())
		default:
			i.fault.Store(&activeFault{Fault: f, until: sent + f.For})
			i.log.Warn("fault injected into the target for a drill", "fault", f.ID, "kind", string(f.Kind), "share", f.Share.String())
		}
	}
}

// activeFault returns the active fault if it affects this operation, and counts it.
func (i *Instance) activeFault(read bool) *activeFault {
	p := i.fault.Load()
	switch {
	case p == nil, read && !p.Reads, !read && !p.Writes, !p.Share.Takes(rand.Uint64()):
		return nil
	}
	now := i.clock()
	// Where only the target has a record, no fault may be injected.
	if w := i.pinned.Load().writes; now >= p.until || w != phases.WritesBackground && w != phases.WritesBoth {
		return nil
	}
	if p.first.CompareAndSwap(0, int64(now)) {
		defer i.ask() // the first one is reported to the state at once
	}
	p.executed.Add(1)
	return p
}

// errInjected is a failure that a drill injects.
var errInjected = errors.New("failure injected for a drill")

type injectedTimeout struct{}

func (injectedTimeout) Error() string { return "no answer: black hole injected for a drill" }
func (injectedTimeout) Timeout() bool { return true }

// inject applies the fault before the target is asked.
func (p *activeFault) inject(ctx context.Context) error {
	switch {
	case p == nil, p.Kind == FaultCorrupt:
		return nil
	case p.Kind == FaultErrors:
		return errInjected
	case !pause(ctx, p.Delay):
		if err := ctx.Err(); err != nil {
			return err
		}
		return injectedTimeout{} // a detached context may not report its end yet
	case p.Kind == FaultLatency:
		return nil
	default:
		return injectedTimeout{}
	}
}

// withFaults returns the target itself unless the instance may inject faults:
// production pays nothing for them.
func withFaults[K comparable, V any](i *Instance, t Target[K, V], corrupt func(V) V) Target[K, V] {
	if _, ok := i.fleet.(FaultSwitch); !ok || !i.set.Faults {
		return t
	}
	f := faultyTarget[K, V]{Target: t, i: i, corrupt: corrupt}
	if batch, ok := t.(BatchTarget[K, V]); ok {
		return faultyBatchTarget[K, V]{f, batch}
	}
	return f
}

// faultyTarget is a target with the active fault injected.
type faultyTarget[K comparable, V any] struct {
	Target[K, V]
	i       *Instance
	corrupt func(V) V
}

func (f faultyTarget[K, V]) Get(ctx context.Context, key K) (Versioned[V], error) {
	if err := f.i.activeFault(true).inject(ctx); err != nil {
		return Versioned[V]{}, fmt.Errorf("read the target: %w", err)
	}
	return f.Target.Get(ctx, key)
}

func (f faultyTarget[K, V]) Apply(ctx context.Context, c Change[K, V], o ApplyOptions) (store.Result, error) {
	p := f.i.activeFault(false)
	if err := p.inject(ctx); err != nil {
		return store.Result{}, fmt.Errorf("write the target: %w", err)
	}
	if p != nil && p.Kind == FaultCorrupt {
		if c.Deleted {
			return store.Result{Outcome: store.Applied, Version: c.Version}, nil
		}
		c = f.corrupted(c)
	}
	return f.Target.Apply(ctx, c, o)
}

// corrupted returns a change that only a comparison can distinguish from c: its version
// is right. Without a function that corrupts a value, the record goes missing.
func (f faultyTarget[K, V]) corrupted(c Change[K, V]) Change[K, V] {
	if f.corrupt == nil {
		c.Deleted = true
		return c
	}
	c.Value = f.corrupt(c.Value)
	return c
}

// faultyBatchTarget is faultyTarget for a target that takes several changes at once: they
// fail together, and each is corrupted by itself.
type faultyBatchTarget[K comparable, V any] struct {
	faultyTarget[K, V]
	batch BatchTarget[K, V]
}

func (f faultyBatchTarget[K, V]) ApplyAll(ctx context.Context, all []Change[K, V], o ApplyOptions) ([]store.Result, error) {
	p := f.i.activeFault(false)
	if err := p.inject(ctx); err != nil {
		return nil, fmt.Errorf("write the target: %w", err)
	}
	if p == nil || p.Kind != FaultCorrupt {
		return f.batch.ApplyAll(ctx, all, o)
	}
	corrupted := make([]Change[K, V], 0, len(all))
	for _, c := range all {
		if !c.Deleted {
			corrupted = append(corrupted, f.corrupted(c))
		}
	}
	results, err := f.batch.ApplyAll(ctx, corrupted, o)
	if err != nil || len(results) != len(corrupted) {
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
