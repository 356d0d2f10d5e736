package opentelemetry_test

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/dual/kit"
	"github.com/stranglerfig/migrator/metrics"
	"github.com/stranglerfig/migrator/opentelemetry"
)

var instance *dual.Instance // kit.Open makes one

func Example() {
	// docs: traces
	traced, err := opentelemetry.New(opentelemetry.Options{
		Migration: "products",
		Legacy:    opentelemetry.Store{System: "postgresql", Namespace: "shop", Collection: "products"},
		Target:    opentelemetry.Store{System: "redis"},
	})
	if err != nil {
		panic(err)
	}
	options := kit.Options{Instance: func(c *dual.Config) { c.OnOperation = traced.OnOperation }}
	// docs: end
	// docs: exemplars
	registry := prometheus.NewRegistry()
	registry.MustRegister(metrics.NewInstance(instance, "products", traced))
	handler := promhttp.HandlerFor(registry, promhttp.HandlerOpts{EnableOpenMetrics: true})
	// docs: end
	fmt.Println(options.Instance != nil, handler != nil)
	// Output: true true
}
