package opentelemetry_test

import (
	"context"
	"testing"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/opentelemetry"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// noStore does nothing, so that only the cost of dual and of the spans is measured.
type noStore struct{ dual.Target[int, int] }

func (noStore) Get(context.Context, int) (dual.Versioned[int], error) {
	return dual.Versioned[int]{Found: true}, nil
}

func (noStore) Apply(context.Context, dual.Change[int, int], dual.ApplyOptions) (store.Result, error) {
	return store.Result{Outcome: store.Applied}, nil
}

// BenchmarkRead reads legacy without a hook, with one that does nothing, and with spans: of a request that is not
// sampled, and of one that is (and exported nowhere).
func BenchmarkRead(b *testing.B) {
	tracing := func(s sdktrace.Sampler) func(context.Context, dual.Operation) (context.Context, func(dual.Result)) {
		traced, err := opentelemetry.New(opentelemetry.Options{
			Migration: "products", TracerProvider: sdktrace.NewTracerProvider(sdktrace.WithSampler(s)),
			Legacy: opentelemetry.Store{System: "postgresql", Collection: "products"},
		})
		if err != nil {
			b.Fatal(err)
		}
		return traced.OnOperation
	}
	for _, c := range []struct {
		name string
		hook func(context.Context, dual.Operation) (context.Context, func(dual.Result))
	}{
		{"no hook", nil},
		{"a hook that does nothing", func(ctx context.Context, _ dual.Operation) (context.Context, func(dual.Result)) { return ctx, nil }},
		{"not sampled", tracing(sdktrace.NeverSample())},
		{"sampled", tracing(sdktrace.AlwaysSample())},
	} {
		b.Run(c.name, func(b *testing.B) {
			i, err := dual.Join(b.Context(), dual.Config{Fleet: dual.NewMemoryFleet(phases.Route{Phase: phases.Legacy}), OnOperation: c.hook})
			if err != nil {
				b.Fatal(err)
			}
			r, err := dual.NewReader(dual.ReaderConfig[int, int]{
				Instance: i, Legacy: func(context.Context, int) (int, bool, error) { return 1, true, nil }, Target: noStore{},
				Key: func(int) record.Key { return "42" }, Equal: func(a, b int) bool { return a == b },
			})
			if err != nil {
				b.Fatal(err)
			}
			ctx := context.Background()
			b.ReportAllocs()
			for b.Loop() {
				_, _, _ = r.Get(ctx, 1)
			}
		})
	}
}
