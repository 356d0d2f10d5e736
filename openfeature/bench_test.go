package openfeature_test

import (
	"testing"
	"time"

	sdk "github.com/open-feature/go-sdk/openfeature"
	"github.com/open-feature/go-sdk/openfeature/memprovider"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/openfeature"
	"github.com/stranglerfig/migrator/phases"
)

// instance is a real one, in cutover for all keys: its lease is looked at in each evaluation.
func instance(b *testing.B) *dual.Instance {
	b.Helper()
	i, err := dual.Join(b.Context(), dual.Config{Fleet: dual.NewMemoryFleet(phases.Route{Phase: phases.Cutover, Percent: phases.All})})
	if err != nil {
		b.Fatal(err)
	}
	return i
}

// BenchmarkProvider is the provider's method by itself: no more than 100 ns, nothing allocated.
func BenchmarkProvider(b *testing.B) {
	p, err := openfeature.New(map[string]openfeature.Source{"products": instance(b)}, openfeature.Options{})
	if err != nil {
		b.Fatal(err)
	}
	in := sdk.FlattenedContext{sdk.TargetingKey: "4711"}
	for _, flag := range []string{"migrator.products.read", "migrator.products.phase"} {
		b.Run(flag, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if p.StringEvaluation(b.Context(), flag, "", in).Value == "" {
					b.Fatal("no value")
				}
			}
		})
	}
}

const turn = 100 // evaluations

// BenchmarkSDK compares the provider with the SDK's own in memory, both through the SDK. ratio is of the two.
func BenchmarkSDK(b *testing.B) {
	p, err := openfeature.New(map[string]openfeature.Source{"products": instance(b)}, openfeature.Options{})
	if err != nil {
		b.Fatal(err)
	}
	memory := memprovider.NewInMemoryProvider(map[string]memprovider.InMemoryFlag{
		"migrator.products.read": {State: memprovider.Enabled, DefaultVariant: "target", Variants: map[string]any{"target": "target"}},
	})
	for domain, provider := range map[string]sdk.FeatureProvider{"bench memory": memory, "bench migrator": p} {
		if err := sdk.SetNamedProviderAndWait(domain, provider); err != nil {
			b.Fatal(err)
		}
	}
	b.Cleanup(p.Shutdown)
	in := sdk.NewEvaluationContext("4711", nil)
	clients := map[string]*sdk.Client{"bench memory": sdk.NewClient("bench memory"), "bench migrator": sdk.NewClient("bench migrator")}
	run := func(domain string) time.Duration {
		client, began := clients[domain], time.Now()
		for range turn {
			if client.String(b.Context(), "migrator.products.read", "", in) != "target" {
				b.Fatal("another value")
			}
		}
		return time.Since(began)
	}
	ours, theirs := time.Hour, time.Hour
	for b.Loop() { // in turns, of which the fastest counts: others shared the processor with other programs
		theirs = min(theirs, run("bench memory"))
		ours = min(ours, run("bench migrator"))
	}
	b.ReportMetric(float64(theirs.Nanoseconds())/turn, "memory-ns")
	b.ReportMetric(float64(ours.Nanoseconds())/turn, "migrator-ns")
	b.ReportMetric(float64(ours)/float64(theirs), "ratio")
}
