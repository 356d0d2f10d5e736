package opentelemetry_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/dual/kit"
	"github.com/stranglerfig/migrator/dual/telemetry"
	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/metrics"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/opentelemetry"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
	"github.com/stranglerfig/migrator/store/postgres"
	"github.com/stranglerfig/migrator/store/redis"
)

func TestMain(m *testing.M) { testenv.Main(m) }

var _ metrics.Exemplars = (*opentelemetry.Tracing)(nil)

// Fruit is the application's own type. No span may have secretKey or secretName.
type Fruit struct {
	ID   string `db:"id"`
	Name string `db:"name"`
}

const (
	secretKey  = "key-zqxwv"
	secretName = "name-of-zqxwv"
)

// shop is an application: legacy is a real PostgreSQL, the target a real Redis.
type shop struct {
	*kit.Records[string, Fruit]
	t      *testing.T
	fleet  *dual.MemoryFleet
	db     *pgxpool.Pool
	target *gate
	traced *opentelemetry.Tracing
	tracer *sdktrace.TracerProvider
	flush  func() *received
	stop   func()
}

// gate lets a test hold reads of the target, and refuse writes.
type gate struct {
	dual.Target[string, Fruit]
	mu      sync.Mutex
	held    chan struct{} // nil: open
	refuses error
}

func (g *gate) Get(ctx context.Context, key string) (dual.Versioned[Fruit], error) {
	g.mu.Lock()
	held := g.held
	g.mu.Unlock()
	if held != nil {
		<-held
	}
	return g.Target.Get(ctx, key)
}

func (g *gate) Apply(ctx context.Context, c dual.Change[string, Fruit], o dual.ApplyOptions) (store.Result, error) {
	g.mu.Lock()
	err := g.refuses
	g.mu.Unlock()
	if err != nil {
		return store.Result{}, err
	}
	return g.Target.Apply(ctx, c, o)
}

func (g *gate) set(change func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	change()
}

func newShop(t *testing.T, at phases.Route) *shop {
	t.Helper()
	s := &shop{t: t, fleet: dual.NewMemoryFleet(at), target: &gate{}}
	s.tracer, s.flush = newCollector(t).provider(t)
	legacy, target := testenv.PostgresURL(t), testenv.RedisURL(t)
	var err error
	if s.db, err = pgxpool.New(t.Context(), legacy); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.db.Close)
	if _, err := s.db.Exec(t.Context(), `CREATE TABLE fruits (id text PRIMARY KEY, name text NOT NULL)`); err != nil {
		t.Fatal(err)
	}
	if _, err := s.db.Exec(t.Context(), `INSERT INTO fruits VALUES ($1, $2)`, secretKey, secretName); err != nil {
		t.Fatal(err)
	}
	m, err := migration.Parse("fruits.yaml", fmt.Appendf(nil, "name: fruits\nlegacy: {store: postgres, url: %q, table: fruits}\ntarget: {store: redis, url: %q, key: 'fruit:{id}'}\n", legacy, target),
		nil, postgres.Kind(), redis.Kind())
	if err != nil {
		t.Fatal(err)
	}
	part, err := m.OpenLegacy(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer part.Close()
	if err := part.Install(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.traced, err = opentelemetry.New(opentelemetry.Options{
		TracerProvider: s.tracer, Migration: "fruits",
		Legacy: opentelemetry.Store{System: "postgresql", Namespace: "shop", Collection: "fruits"}, Target: opentelemetry.Store{System: "redis"},
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Records, err = kit.Open(t.Context(), m, kit.Options{Fleet: s.fleet, Instance: func(c *dual.Config) {
		c.OnOperation, c.ReportEvery = s.traced.OnOperation, 100*time.Millisecond
		c.Marks = nil // the memory fleet gives none
	}}, kit.Binding[string, Fruit]{
		Read: func(ctx context.Context, id string) (f Fruit, found bool, err error) {
			rows, err := s.db.Query(ctx, `SELECT id, name FROM fruits WHERE id = $1`, id)
			if err != nil {
				return f, false, err
			}
			defer rows.Close()
			if found = rows.Next(); found {
				err = rows.Scan(&f.ID, &f.Name)
			}
			return f, found, errors.Join(err, rows.Err())
		},
		Reader: func(c *dual.ReaderConfig[string, Fruit]) {
			s.target.Target, c.Target, c.TargetTimeout, c.ShadowTimeout = c.Target, s.target, 0, time.Hour
			c.RecheckPause, c.ShadowPercent = time.Millisecond, phases.All
		},
		Writer: func(c *dual.WriterConfig[string, Fruit]) { c.Target = s.target },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	left := make(chan error, 1)
	go func() { left <- s.Instance.Run(ctx) }()
	s.stop = sync.OnceFunc(func() { // every operation has ended then
		cancel()
		if err := <-left; err != nil {
			t.Error(err)
		}
		s.Close()
	})
	t.Cleanup(s.stop)
	return s
}

// request does one thing within a span of the application's own.
func (s *shop) request(do func(ctx context.Context)) {
	ctx, span := s.tracer.Tracer("shop").Start(s.t.Context(), "GET /fruits")
	defer span.End()
	do(ctx)
}

func (s *shop) get() {
	s.request(func(ctx context.Context) {
		if f, found, err := s.Get(ctx, secretKey); err != nil || !found || f.Name != secretName {
			s.t.Errorf("%v, %v, %v", f, found, err)
		}
	})
}

func (s *shop) put() {
	s.request(func(ctx context.Context) {
		err := s.Put(ctx, secretKey, Fruit{secretKey, secretName}, func(ctx context.Context) (v record.Version, err error) {
			var text string
			if err := s.db.QueryRow(ctx, `UPDATE fruits SET name = $2 WHERE id = $1 RETURNING `+s.Version, secretKey, secretName).Scan(&text); err != nil {
				return v, err
			}
			return record.ParseVersion(text)
		})
		if err != nil {
			s.t.Error(err)
		}
	})
}

// await waits until the instance has counted.
func (s *shop) await(what string, is func(dual.Stats) bool) {
	s.t.Helper()
	for stats := s.Instance.Stats(); !is(stats); stats = s.Instance.Stats() {
		select {
		case <-s.t.Context().Done():
			s.t.Fatalf("no %s: %+v", what, stats)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func inside(t *testing.T, child, parent *tracepb.Span) {
	t.Helper()
	if !bytes.Equal(child.GetTraceId(), parent.GetTraceId()) || !bytes.Equal(child.GetParentSpanId(), parent.GetSpanId()) {
		t.Errorf("%s is not within %s", child.GetName(), parent.GetName())
	}
}

func linked(t *testing.T, from, to *tracepb.Span, why string) {
	t.Helper()
	if !slices.ContainsFunc(from.GetLinks(), func(l *tracepb.Span_Link) bool {
		return bytes.Equal(l.GetSpanId(), to.GetSpanId()) && bytes.Equal(l.GetTraceId(), to.GetTraceId()) && slices.Contains(attributes(l.GetAttributes()), "migrator.link="+why)
	}) {
		t.Errorf("%s has no link of %s to %s: %v", from.GetName(), why, to.GetName(), from.GetLinks())
	}
}

// TestOneRequestIsOneTrace: the legacy read, the shadow read and the comparison, which ends after the request
// has, are one trace of the request.
func TestOneRequestIsOneTrace(t *testing.T) {
	t.Parallel()
	s := newShop(t, phases.Route{Phase: phases.DualRead, Percent: phases.All, Epoch: 7})
	s.put()
	answered := make(chan struct{})
	s.target.set(func() { s.target.held = answered })
	s.get()
	close(answered) // only now does the target answer
	s.stop()
	got := s.flush()
	read := got.only("migrator.read", "migrator.migration=fruits", "migrator.phase=dual-read", "migrator.epoch=7", "migrator.outcome=ok")
	var request *tracepb.Span
	for _, r := range got.all("GET /fruits") {
		if bytes.Equal(r.GetSpanId(), read.GetParentSpanId()) {
			request = r
		}
	}
	if request == nil {
		t.Fatalf("the read is within no request:\n%s", got)
	}
	legacy := got.only("read fruits", "db.system.name=postgresql", "db.namespace=shop", "db.collection.name=fruits", "db.operation.name=read", "migrator.store=legacy", "migrator.role=serving", "migrator.outcome=ok")
	comparison := got.only("migrator.comparison", "migrator.role=shadow", "migrator.background=true", "migrator.outcome=agreed")
	shadow := got.only("read", "db.system.name=redis", "migrator.store=target", "migrator.role=shadow", "migrator.outcome=ok")
	inside(t, read, request)
	inside(t, legacy, read)
	inside(t, comparison, read)
	inside(t, shadow, comparison)
	linked(t, comparison, request, "request")
	if comparison.GetEndTimeUnixNano() < request.GetEndTimeUnixNano() {
		t.Error("the comparison ended before the request")
	}
	for _, s := range []*tracepb.Span{legacy, shadow} {
		if s.GetKind() != tracepb.Span_SPAN_KIND_CLIENT {
			t.Errorf("%s is %s", s.GetName(), s.GetKind())
		}
	}
	n := 0
	for _, s := range got.spans {
		if bytes.Equal(s.GetTraceId(), request.GetTraceId()) {
			n++
		}
	}
	if n != 5 {
		t.Errorf("the trace has %d spans, want 5:\n%s", n, got)
	}
	write := got.only("migrator.write", "migrator.outcome=ok")
	inside(t, got.only("write fruits", "migrator.store=legacy"), write)
	inside(t, got.only("write", "migrator.store=target", "db.system.name=redis"), write)
	for _, s := range got.spans {
		for _, text := range append(attributes(s.GetAttributes()), s.GetName(), s.GetStatus().GetMessage(), fmt.Sprint(s.GetEvents())) {
			if strings.Contains(text, "zqxwv") {
				t.Errorf("%s has a key or a value: %s", s.GetName(), text)
			}
		}
	}
}

// TestAQueuedWriteIsInItsTrace: the target gets it after the request has been answered.
func TestAQueuedWriteIsInItsTrace(t *testing.T) {
	t.Parallel()
	s := newShop(t, phases.Route{Phase: phases.ShadowWrite})
	s.put()
	s.stop()
	got := s.flush()
	write := got.only("migrator.write", "migrator.outcome=ok", "migrator.role=shadow", "migrator.background=true")
	var first *tracepb.Span
	for _, w := range got.all("migrator.write") {
		if !bytes.Equal(w.GetSpanId(), write.GetSpanId()) {
			first = w
		}
	}
	inside(t, write, first)
	inside(t, first, got.only("GET /fruits"))
	inside(t, got.only("write", "migrator.store=target", "migrator.role=shadow", "migrator.outcome=ok"), write)
}

// TestARollbackIsLinkedToItsEvidence: the fleet rolls back, and this instance has seen a mismatch.
func TestARollbackIsLinkedToItsEvidence(t *testing.T) {
	t.Parallel()
	s := newShop(t, phases.Route{Phase: phases.Grace, Epoch: 3})
	s.put()
	if _, err := s.db.Exec(t.Context(), `UPDATE fruits SET name = name || '!'`); err != nil { // past the application
		t.Fatal(err)
	}
	s.get()
	s.await("mismatch", func(n dual.Stats) bool { return n.Mismatches == 1 })
	if err := s.fleet.Move(t.Context(), phases.DualRead, phases.All); err != nil {
		t.Fatal(err)
	}
	s.stop()
	got := s.flush()
	rollback := got.only("migrator.rollback", "migrator.epoch=3", "migrator.to.epoch=4", "migrator.to.phase=dual-read", "migrator.background=true", "migrator.outcome=ok")
	comparison := got.only("migrator.comparison", "migrator.outcome=mismatch")
	linked(t, rollback, comparison, "evidence")
	if len(rollback.GetParentSpanId()) > 0 || len(rollback.GetLinks()) != 1 || comparison.GetStatus().GetCode() != tracepb.Status_STATUS_CODE_ERROR {
		t.Errorf("%v", got)
	}
}

// TestARollbackOfAWriteIsLinkedToIt: a write that the target refuses takes the fleet's reads back, and waits.
func TestARollbackOfAWriteIsLinkedToIt(t *testing.T) {
	t.Parallel()
	s := newShop(t, phases.Route{Phase: phases.Grace, Epoch: 3})
	s.target.set(func() { s.target.refuses = fmt.Errorf("key %q: not %q", secretKey, secretName) })
	s.put()
	s.stop()
	got := s.flush()
	write := got.only("migrator.write", "migrator.outcome=error")
	failed := got.only("write", "migrator.store=target", "migrator.outcome=error", "error.type=*errors.errorString")
	inside(t, failed, write)
	var rollback *tracepb.Span
	for _, r := range got.all("migrator.rollback") {
		if slices.Contains(attributes(r.GetAttributes()), "migrator.background=true") {
			linked(t, r, failed, "evidence")
			continue
		}
		rollback = r
	}
	if rollback == nil {
		t.Fatalf("the write has no rollback:\n%s", got)
	}
	inside(t, rollback, write)
	linked(t, rollback, write, "cause")
	if strings.Contains(got.String()+failed.GetStatus().GetMessage(), "zqxwv") {
		t.Errorf("a span has a key:\n%s", got)
	}
}

// TestErrorsAreClasses: a server's code, else the type; never the text.
func TestErrorsAreClasses(t *testing.T) {
	t.Parallel()
	provider, flush := newCollector(t).provider(t)
	traced, err := opentelemetry.New(opentelemetry.Options{TracerProvider: provider, Migration: "fruits"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := opentelemetry.New(opentelemetry.Options{}); err == nil {
		t.Error("no migration, and no error")
	}
	for _, c := range []struct {
		err     error
		outcome telemetry.Outcome
		want    []string
		status  tracepb.Status_StatusCode
	}{
		{fmt.Errorf("key %q: %w", secretKey, sqlState("23505")), telemetry.Failed, []string{"db.response.status_code=23505", "error.type=23505"}, tracepb.Status_STATUS_CODE_ERROR},
		{redisError("WRONGTYPE of " + secretKey), telemetry.Failed, []string{"db.response.status_code=WRONGTYPE", "error.type=WRONGTYPE"}, tracepb.Status_STATUS_CODE_ERROR},
		{redisError("redis: nil"), telemetry.Faulty, []string{"error.type=github.com/stranglerfig/migrator/opentelemetry_test.redisError"}, tracepb.Status_STATUS_CODE_ERROR},
		{context.Canceled, telemetry.Cancelled, []string{"error.type=*errors.errorString"}, tracepb.Status_STATUS_CODE_UNSET},
		{nil, telemetry.OK, nil, tracepb.Status_STATUS_CODE_UNSET},
		{nil, "", nil, tracepb.Status_STATUS_CODE_UNSET},
	} {
		before := len(flush().spans)
		ctx, done := traced.OnOperation(t.Context(), dual.Operation{Kind: telemetry.Read})
		_, end := traced.OnOperation(ctx, dual.Operation{Kind: telemetry.Read, Store: telemetry.Target})
		end(dual.Result{Outcome: c.outcome, Err: c.err})
		done(dual.Result{Outcome: telemetry.OK})
		s := flush().spans[before]
		have := attributes(s.GetAttributes())
		for _, want := range c.want {
			if !slices.Contains(have, want) {
				t.Errorf("%v: %v lacks %s", c.err, have, want)
			}
		}
		if s.GetStatus().GetCode() != c.status || strings.Contains(fmt.Sprint(have, s.GetStatus(), s.GetEvents()), "zqxwv") {
			t.Errorf("%v: %v, %v", c.err, s.GetStatus(), have)
		}
	}
}

type sqlState string

func (e sqlState) Error() string    { return "refused: " + secretKey }
func (e sqlState) SQLState() string { return string(e) }

type redisError string

func (e redisError) Error() string { return string(e) }
func (redisError) RedisError()     {}

func traceID(s *tracepb.Span) string { return hex.EncodeToString(s.GetTraceId()) }

// TestWhatIsNotSampledHasNoExemplar, and its attempts cost no span.
func TestWhatIsNotSampledHasNoExemplar(t *testing.T) {
	t.Parallel()
	for _, sampler := range []sdktrace.Sampler{sdktrace.NeverSample(), sdktrace.AlwaysSample()} {
		traced, err := opentelemetry.New(opentelemetry.Options{Migration: "fruits", TracerProvider: sdktrace.NewTracerProvider(sdktrace.WithSampler(sampler))})
		if err != nil {
			t.Fatal(err)
		}
		sampled := sampler.Description() == sdktrace.AlwaysSample().Description()
		ctx, done := traced.OnOperation(t.Context(), dual.Operation{Kind: telemetry.Read})
		within, end := traced.OnOperation(ctx, dual.Operation{Kind: telemetry.Read, Store: telemetry.Target})
		if end != nil {
			end(dual.Result{Outcome: telemetry.OK, Took: time.Millisecond})
		}
		done(dual.Result{Outcome: telemetry.OK})
		if (within != ctx) != sampled || (len(traced.Exemplars()) == 1) != sampled {
			t.Errorf("%s: %v", sampler.Description(), traced.Exemplars())
		}
	}
}
