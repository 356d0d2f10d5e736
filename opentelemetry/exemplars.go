package opentelemetry

import (
	"math/bits"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/dual/telemetry"
)

// exemplars keeps the newest sampled trace of each series in each doubling of the duration, of which there are some
// tens: finer than the buckets that metrics are exported in, or as fine.
type exemplars struct {
	mu  sync.Mutex
	all map[exemplarKey]telemetry.Exemplar
}

type exemplarKey struct {
	telemetry.Series
	doubling int
}

// add keeps the span of an attempt that is counted in a latency.
func (e *exemplars) add(of trace.SpanContext, o dual.Operation, r dual.Result) {
	if r.Took <= 0 {
		return
	}
	series := telemetry.Series{Operation: o.Kind, Store: o.Store, Role: o.Role, Outcome: r.Outcome}
	if o.Store == "" { // a write as a whole: how long its caller waited
		series = telemetry.Series{Operation: telemetry.Write, Store: telemetry.Both, Role: telemetry.Added, Outcome: r.Outcome}
	}
	key := exemplarKey{series, bits.Len64(uint64(r.Took / (100 * time.Microsecond)))}
	one := telemetry.Exemplar{Series: series, Took: r.Took, At: time.Now(), TraceID: of.TraceID().String(), SpanID: of.SpanID().String()}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.all == nil {
		e.all = map[exemplarKey]telemetry.Exemplar{}
	}
	e.all[key] = one
}

// Exemplars implements metrics.Exemplars.
func (t *Tracing) Exemplars() []telemetry.Exemplar {
	e := &t.exemplars
	e.mu.Lock()
	defer e.mu.Unlock()
	all := make([]telemetry.Exemplar, 0, len(e.all))
	for _, one := range e.all {
		all = append(all, one)
	}
	return all
}

// mostEvidence is how many spans a rollback links to.
const mostEvidence = 8

// evidence keeps the newest sampled spans of what speaks against the target: a comparison that found a difference, and
// attempts on the target that failed.
type evidence struct {
	mu   sync.Mutex
	last []trace.Link
}

func (e *evidence) add(of trace.SpanContext, o dual.Operation, r dual.Result) {
	switch {
	case o.Kind == telemetry.Comparison && (r.Outcome == telemetry.Mismatch || r.Outcome == telemetry.LostWrite):
	case o.Store == telemetry.Target && (r.Outcome == telemetry.Failed || r.Outcome == telemetry.TimedOut):
	default:
		return
	}
	link := trace.Link{SpanContext: of, Attributes: []attribute.KeyValue{
		linkKey.String("evidence"), outcomeKey.String(string(r.Outcome)), epochKey.Int64(o.Route.Epoch),
	}}
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.last) == mostEvidence {
		e.last = append(e.last[:0], e.last[1:]...)
	}
	e.last = append(e.last, link)
}

// take returns and forgets them: the next rollback has its own.
func (e *evidence) take() []trace.Link {
	e.mu.Lock()
	defer e.mu.Unlock()
	last := e.last
	e.last = nil
	return last
}
