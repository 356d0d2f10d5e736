// Package opentelemetry traces the operations of package dual: each is a span of the caller's trace, with a span for
// each attempt on a store, by the semantic conventions for database clients.
//
//	traced, err := opentelemetry.New(opentelemetry.Options{
//		Migration: "products",
//		Legacy:    opentelemetry.Store{System: "postgresql", Collection: "products"},
//		Target:    opentelemetry.Store{System: "redis"},
//	})
//	config.OnOperation = traced.OnOperation                    // of dual.Config
//	metrics.NewInstance(instance, "products", traced)          // latencies with exemplars
//
// No span has a key or a value of a record, and none has the text of an error, which may.
package opentelemetry

import (
	"context"
	"errors"
	"strings"
	"sync"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/dual/telemetry"
)

// Store is how spans describe a store.
type Store struct {
	System     string // db.system.name: postgresql, redis, ...
	Namespace  string // db.namespace; empty: none
	Collection string // db.collection.name, the table; empty: none
}

// Options of a Tracing.
type Options struct {
	TracerProvider trace.TracerProvider // nil: the global one
	Migration      string               // its name
	Legacy, Target Store
}

// Attributes of spans, beside those of the semantic conventions.
const (
	migrationKey  = attribute.Key("migrator.migration")
	phaseKey      = attribute.Key("migrator.phase")
	epochKey      = attribute.Key("migrator.epoch")
	toPhaseKey    = attribute.Key("migrator.to.phase") // of a rollback
	toEpochKey    = attribute.Key("migrator.to.epoch")
	storeKey      = attribute.Key("migrator.store")
	roleKey       = attribute.Key("migrator.role")
	outcomeKey    = attribute.Key("migrator.outcome")
	backgroundKey = attribute.Key("migrator.background")
	lapsedKey     = attribute.Key("migrator.lapsed")
	linkKey       = attribute.Key("migrator.link") // why a span is linked: request, cause or evidence
)

// name is the tracer's.
const name = "github.com/stranglerfig/migrator/opentelemetry"

// Tracing makes spans of one migration's operations, in one process. It is safe for concurrent use.
type Tracing struct {
	options Options
	tracer  trace.Tracer

	mu    sync.RWMutex
	kinds map[dual.Operation]*kind

	exemplars exemplars
	evidence  evidence
}

// New checks the options.
func New(o Options) (*Tracing, error) {
	if o.Migration == "" {
		return nil, errors.New("opentelemetry: Options.Migration is missing")
	}
	if o.TracerProvider == nil {
		o.TracerProvider = otel.GetTracerProvider()
	}
	return &Tracing{
		options: o, kinds: map[dual.Operation]*kind{},
		tracer: o.TracerProvider.Tracer(name, trace.WithSchemaURL(semconv.SchemaURL)),
	}, nil
}

// kind is what spans of equal operations have in common.
type kind struct {
	name    string
	options []trace.SpanStartOption
}

// mostKinds bounds the memory of an instance that lives through many epochs.
const mostKinds = 1024

func (t *Tracing) kind(o dual.Operation) *kind {
	t.mu.RLock()
	k := t.kinds[o]
	t.mu.RUnlock()
	if k != nil {
		return k
	}
	k = t.newKind(o)
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.kinds) >= mostKinds {
		clear(t.kinds)
	}
	t.kinds[o] = k
	return k
}

func (t *Tracing) newKind(o dual.Operation) *kind {
	attributes := []attribute.KeyValue{
		migrationKey.String(t.options.Migration), phaseKey.String(string(o.Route.Phase)), epochKey.Int64(o.Route.Epoch),
	}
	if o.To.Epoch != 0 {
		attributes = append(attributes, toPhaseKey.String(string(o.To.Phase)), toEpochKey.Int64(o.To.Epoch))
	}
	if o.Role != "" {
		attributes = append(attributes, roleKey.String(string(o.Role)))
	}
	if o.Background {
		attributes = append(attributes, backgroundKey.Bool(true))
	}
	if o.Lapsed {
		attributes = append(attributes, lapsedKey.Bool(true))
	}
	if o.Store == "" {
		return &kind{"migrator." + string(o.Kind), []trace.SpanStartOption{trace.WithAttributes(attributes...)}}
	}
	of := t.options.Legacy
	if o.Store == telemetry.Target {
		of = t.options.Target
	}
	attributes = append(attributes, storeKey.String(string(o.Store)), semconv.DBOperationName(string(o.Kind)))
	if of.System != "" {
		attributes = append(attributes, semconv.DBSystemNameKey.String(of.System))
	}
	if of.Namespace != "" {
		attributes = append(attributes, semconv.DBNamespace(of.Namespace))
	}
	span := string(o.Kind)
	if of.Collection != "" {
		attributes = append(attributes, semconv.DBCollectionName(of.Collection))
		span += " " + of.Collection
	}
	return &kind{span, []trace.SpanStartOption{trace.WithAttributes(attributes...), trace.WithSpanKind(trace.SpanKindClient)}}
}

// withinKey is the context's key of the operation that a context is within.
type withinKey struct{}

// within is an operation in flight.
type within struct {
	request trace.Span // the caller's, which was recording; nil: there was none
	span    trace.Span
}

// OnOperation is for dual.Config.OnOperation. Work that outlives the operation which began it is in the trace of that
// operation, and linked to the caller's span if that has ended before.
func (t *Tracing) OnOperation(ctx context.Context, o dual.Operation) (context.Context, func(dual.Result)) {
	outer, _ := ctx.Value(withinKey{}).(*within)
	if o.Store != "" && outer == nil {
		return ctx, nil // of an operation whose span does not record
	}
	k := t.kind(o)
	options := k.options
	if o.Kind == dual.KindRollback {
		options = append(options[:len(options):len(options)], trace.WithLinks(t.causes(o, outer)...))
	}
	caller := trace.SpanFromContext(ctx)
	ctx, span := t.tracer.Start(ctx, k.name, options...)
	if !span.IsRecording() {
		return ctx, func(dual.Result) { span.End() }
	}
	if o.Store != "" {
		return ctx, func(r dual.Result) { t.end(span, o, r) }
	}
	own := &within{span: span}
	switch {
	case o.Background && outer != nil:
		own.request = outer.request
	case caller.IsRecording():
		own.request = caller
	}
	return context.WithValue(ctx, withinKey{}, own), func(r dual.Result) {
		// A span that has ended does not record: so has the request that began this work.
		if o.Background && own.request != nil && !own.request.IsRecording() {
			span.AddLink(trace.Link{SpanContext: own.request.SpanContext(), Attributes: []attribute.KeyValue{linkKey.String("request")}})
		}
		t.end(span, o, r)
	}
}

// causes are the links of a rollback: to the write that began it, or, where the fleet rolls back, to what this instance
// has seen go wrong since the rollback before. What the trigger rested on is the counts of all
// instances, which name no trace.
func (t *Tracing) causes(o dual.Operation, outer *within) []trace.Link {
	if o.Background {
		return t.evidence.take()
	}
	if outer == nil {
		return nil
	}
	return []trace.Link{{SpanContext: outer.span.SpanContext(), Attributes: []attribute.KeyValue{linkKey.String("cause")}}}
}

// end ends a span that records.
func (t *Tracing) end(span trace.Span, o dual.Operation, r dual.Result) {
	if r.Outcome != "" {
		span.SetAttributes(outcomeKey.String(string(r.Outcome)))
	}
	if r.Err != nil {
		span.SetAttributes(errorAttributes(r.Err)...)
	}
	switch r.Outcome {
	case telemetry.Failed, telemetry.TimedOut, telemetry.Rejected, telemetry.Faulty, telemetry.Mismatch, telemetry.LostWrite:
		span.SetStatus(codes.Error, string(r.Outcome)) // not the error's text: it may have a key
	}
	if of := span.SpanContext(); of.IsSampled() {
		t.exemplars.add(of, o, r)
		t.evidence.add(of, o, r)
	}
	span.End()
}

// errorAttributes are the error's class: the code of the server that answered, else the error's type.
func errorAttributes(err error) []attribute.KeyValue {
	var sql interface{ SQLState() string }
	var redis interface {
		error
		RedisError()
	}
	code := ""
	switch {
	case errors.As(err, &sql):
		code = sql.SQLState()
	case errors.As(err, &redis):
		if code, _, _ = strings.Cut(redis.Error(), " "); strings.ToUpper(code) != code {
			code = "" // a client's own error, which begins with a word
		}
	}
	if code == "" {
		return []attribute.KeyValue{semconv.ErrorType(err)}
	}
	return []attribute.KeyValue{semconv.ErrorTypeKey.String(code), semconv.DBResponseStatusCode(code)}
}
