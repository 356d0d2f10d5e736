package openfeature_test

import (
	"context"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	sdk "github.com/open-feature/go-sdk/openfeature"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/openfeature"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
)

// source is an instance's route and lease, as a test sets them.
type source struct {
	route  atomic.Pointer[phases.Route]
	lapsed atomic.Bool
}

func on(r phases.Route) *source {
	s := &source{}
	s.move(r)
	return s
}

func (s *source) move(r phases.Route) { s.route.Store(&r) }

// Route implements openfeature.Source.
func (s *source) Route() phases.Route { return *s.route.Load() }

// Lapsed implements openfeature.Source.
func (s *source) Lapsed() bool { return s.lapsed.Load() }

// registered is a provider in the SDK, in a domain of the test's own.
func registered(t *testing.T, s openfeature.Source, o openfeature.Options) *sdk.Client {
	t.Helper()
	p, err := openfeature.New(map[string]openfeature.Source{"products": s}, o)
	if err != nil {
		t.Fatal(err)
	}
	domain := t.Name()
	if err := sdk.SetNamedProviderAndWait(domain, p); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Shutdown)
	return sdk.NewClient(domain)
}

func of(key string) sdk.EvaluationContext { return sdk.NewEvaluationContext(key, nil) }

var cutover = phases.Route{Phase: phases.Cutover, Percent: 3700, Epoch: 7}

// The tests are named as the scenarios of OpenFeature's draft of a provider conformance suite (open-feature/spec#423):
// evaluation, errors, lifecycle, events.

func TestTCKEvaluation(t *testing.T) {
	ctx := t.Context()
	s := on(cutover)
	client := registered(t, s, openfeature.Options{})
	t.Run("Resolve string values with details", func(t *testing.T) {
		d, err := client.StringValueDetails(ctx, "migrator.products.phase", "legacy", of("1"))
		if err != nil || d.Value != "cutover" || d.Variant != "cutover" || d.Reason != sdk.StaticReason || d.FlagMetadata["epoch"] != int64(7) {
			t.Errorf("%+v, %v", d, err)
		}
	})
	t.Run("Resolve object values", func(t *testing.T) {
		v, err := client.ObjectValue(ctx, "migrator.products.routing", nil, of("1"))
		got, _ := v.(map[string]any)
		if err != nil || got["read"] != "split" || got["percent"] != 37.0 || got["writes"] != "both" || got["acknowledgement"] != "both" || got["leaseSeconds"] != 15.0 {
			t.Errorf("%v, %v", v, err)
		}
	})
	t.Run("Resolve boolean values", func(t *testing.T) {
		r := cutover
		r.Shadow, r.Epoch = phases.SetShadow(phases.All), 8
		s.move(r)
		if d, err := client.BooleanValueDetails(ctx, "migrator.products.sampled", false, of("1")); err != nil || !d.Value || d.Reason != sdk.StaticReason {
			t.Errorf("%+v, %v", d, err)
		}
	})
	t.Run("Resolve the code default where there is no value", func(t *testing.T) {
		s.move(phases.Route{Phase: phases.Grace, Epoch: 9})
		if d, err := client.BooleanValueDetails(ctx, "migrator.products.sampled", true, of("1")); err != nil || !d.Value || d.Reason != sdk.DefaultReason {
			t.Errorf("%+v, %v", d, err)
		}
	})
	t.Run("Resolve by targeting key", func(t *testing.T) {
		s.move(cutover)
		values := map[string]int{}
		for n := range 100 {
			d, err := client.StringValueDetails(ctx, "migrator.products.read", "", of(strconv.Itoa(n)))
			if err != nil || d.Reason != sdk.SplitReason {
				t.Fatalf("%+v, %v", d, err)
			}
			values[d.Value]++
		}
		if len(values) != 2 || values["target"] < 15 || values["legacy"] < 40 {
			t.Errorf("%v", values)
		}
	})
}

func TestTCKErrors(t *testing.T) {
	ctx := t.Context()
	client := registered(t, on(cutover), openfeature.Options{})
	code := func(t *testing.T, d sdk.ResolutionDetail, isDefault bool, want sdk.ErrorCode) {
		t.Helper()
		if d.ErrorCode != want || d.Reason != sdk.ErrorReason || !isDefault {
			t.Errorf("%+v, default %t, want %s", d, isDefault, want)
		}
	}
	t.Run("Flag not found", func(t *testing.T) {
		for _, flag := range []string{"migrator.orders.phase", "migrator.products", "", "migrator.products.phase "} {
			d, _ := client.StringValueDetails(ctx, flag, "own", of("1"))
			code(t, d.ResolutionDetail, d.Value == "own", sdk.FlagNotFoundCode)
		}
	})
	t.Run("Type mismatch", func(t *testing.T) {
		b, _ := client.BooleanValueDetails(ctx, "migrator.products.phase", true, of("1"))
		code(t, b.ResolutionDetail, b.Value, sdk.TypeMismatchCode)
		s, _ := client.StringValueDetails(ctx, "migrator.products.sampled", "own", of("1"))
		code(t, s.ResolutionDetail, s.Value == "own", sdk.TypeMismatchCode)
		i, _ := client.IntValueDetails(ctx, "migrator.products.phase", 7, of("1"))
		code(t, i.ResolutionDetail, i.Value == 7, sdk.TypeMismatchCode)
		f, _ := client.FloatValueDetails(ctx, "migrator.products.routing", 7, of("1"))
		code(t, f.ResolutionDetail, f.Value == 7, sdk.TypeMismatchCode)
		o, _ := client.ObjectValueDetails(ctx, "migrator.products.read", "own", of("1"))
		code(t, o.ResolutionDetail, o.Value == "own", sdk.TypeMismatchCode)
	})
	t.Run("Targeting key missing", func(t *testing.T) {
		none := sdk.NewTargetlessEvaluationContext(nil)
		s, _ := client.StringValueDetails(ctx, "migrator.products.read", "own", none)
		code(t, s.ResolutionDetail, s.Value == "own", sdk.TargetingKeyMissingCode)
		b, _ := client.BooleanValueDetails(ctx, "migrator.products.sampled", true, none)
		code(t, b.ResolutionDetail, b.Value, sdk.TargetingKeyMissingCode)
	})
	t.Run("Invalid context", func(t *testing.T) {
		d, _ := client.StringValueDetails(ctx, "migrator.products.read", "own", sdk.NewTargetlessEvaluationContext(map[string]any{"targetingKey": 7}))
		code(t, d.ResolutionDetail, d.Value == "own", sdk.InvalidContextCode)
	})
}

func TestTCKLifecycle(t *testing.T) {
	t.Run("A provider that successfully initializes becomes ready", func(t *testing.T) {
		if state := registered(t, on(cutover), openfeature.Options{}).State(); state != sdk.ReadyState {
			t.Errorf("%s", state)
		}
	})
	t.Run("A provider without anything to answer from is refused", func(t *testing.T) {
		for _, sources := range []map[string]openfeature.Source{nil, {"products": nil}} {
			if _, err := openfeature.New(sources, openfeature.Options{}); err == nil {
				t.Errorf("%v was taken", sources)
			}
		}
		if _, err := openfeature.New(map[string]openfeature.Source{"products": on(cutover)}, openfeature.Options{FailAfter: -1}); err == nil {
			t.Error("a negative option was taken")
		}
	})
	t.Run("Shutdown can be repeated, before Init too", func(t *testing.T) {
		p, err := openfeature.New(map[string]openfeature.Source{"products": on(cutover)}, openfeature.Options{})
		if err != nil {
			t.Fatal(err)
		}
		p.Shutdown()
		p.Shutdown()
		if err := p.Init(sdk.EvaluationContext{}); err != nil {
			t.Error(err)
		}
		p.Shutdown()
	})
}

func TestTCKEvents(t *testing.T) {
	ctx := t.Context()
	s := on(cutover)
	client := registered(t, s, openfeature.Options{FailAfter: time.Second, LookEvery: time.Millisecond})
	type event struct {
		kind sdk.EventType
		sdk.EventDetails
	}
	events := make(chan event, 64)
	for _, kind := range []sdk.EventType{sdk.ProviderConfigChange, sdk.ProviderStale, sdk.ProviderError, sdk.ProviderReady} {
		f := func(d sdk.EventDetails) { events <- event{kind, d} }
		client.AddHandler(kind, &f)
	}
	next := func(t *testing.T, want sdk.EventType) sdk.EventDetails {
		t.Helper()
		select {
		case e := <-events:
			if e.kind != want {
				t.Fatalf("%s, want %s", e.kind, want)
			}
			return e.EventDetails
		case <-time.After(2 * time.Minute):
			t.Fatalf("no %s", want)
			return sdk.EventDetails{}
		}
	}
	next(t, sdk.ProviderReady) // of the registration
	t.Run("A flag change is part of the event payload", func(t *testing.T) {
		s.move(phases.Route{Phase: phases.Cutover, Percent: phases.All, Epoch: 8})
		if d := next(t, sdk.ProviderConfigChange); !slices.Contains(d.FlagChanges, "migrator.products.read") || d.EventMetadata["epoch"] != int64(8) {
			t.Errorf("%+v", d)
		}
	})
	t.Run("Provider events chain ready -> stale -> ready", func(t *testing.T) {
		s.lapsed.Store(true)
		next(t, sdk.ProviderStale)
		if v := client.String(ctx, "migrator.products.read", "legacy", of("1")); v != "legacy" {
			t.Errorf("a lapsed instance reads %s", v)
		}
		if d, err := client.StringValueDetails(ctx, "migrator.products.phase", "", of("1")); d.FlagMetadata["stale"] != true {
			t.Errorf("stale: %+v, %v", d, err)
		}
		s.lapsed.Store(false)
		// It may have been away for so long that it failed first.
		for e := range events {
			if e.kind == sdk.ProviderReady {
				break
			}
		}
		if v := client.String(ctx, "migrator.products.read", "", of("1")); v != "target" {
			t.Errorf("with a lease it reads %s", v)
		}
	})
	t.Run("Provider events chain ready -> stale -> error -> ready", func(t *testing.T) {
		s.lapsed.Store(true)
		next(t, sdk.ProviderStale)
		next(t, sdk.ProviderError)
		d, err := client.StringValueDetails(ctx, "migrator.products.phase", "own", of("1"))
		if err == nil || d.Value != "own" || d.ErrorCode != sdk.GeneralCode {
			t.Errorf("%+v, %v", d, err)
		}
		s.lapsed.Store(false)
		next(t, sdk.ProviderReady)
		if d, err := client.StringValueDetails(ctx, "migrator.products.phase", "own", of("1")); err != nil || d.Value != "cutover" || d.FlagMetadata["stale"] != nil {
			t.Errorf("%+v, %v", d, err)
		}
	})
}

// TestLapsedAsDual: from the fence on a lapsed instance reads the target, as dual's Reader does.
func TestLapsedAsDual(t *testing.T) {
	s := on(phases.Route{Phase: phases.Retain, Epoch: 9})
	s.lapsed.Store(true)
	client := registered(t, s, openfeature.Options{})
	if v := client.String(t.Context(), "migrator.products.read", "", of("1")); v != "target" {
		t.Errorf("retain without a lease: %s", v)
	}
}

// answers is a target that has every record.
type answers struct{ dual.Target[string, string] }

func (answers) Get(context.Context, string) (dual.Versioned[string], error) {
	return dual.Versioned[string]{Value: "target", Found: true, Version: record.MakeVersion(1, 0, 1)}, nil
}

// TestKeyByKeyAsAnInstance: the provider on a real instance names the store that its Reader reads, in each phase.
func TestKeyByKeyAsAnInstance(t *testing.T) {
	ctx := t.Context()
	fleet := dual.NewMemoryFleet(phases.Route{Phase: phases.Legacy})
	i, err := dual.Join(ctx, dual.Config{Fleet: fleet})
	if err != nil {
		t.Fatal(err)
	}
	running, stop := context.WithCancel(ctx)
	ran := make(chan error, 1)
	go func() { ran <- i.Run(running) }()
	t.Cleanup(func() { stop(); <-ran })
	reader, err := dual.NewReader(dual.ReaderConfig[string, string]{
		Instance: i, NoShadow: true, Equal: func(string, string) bool { return true },
		Key:    func(k string) record.Key { return record.Key(k) },
		Legacy: func(context.Context, string) (string, bool, error) { return "legacy", true, nil },
		Target: answers{},
	})
	if err != nil {
		t.Fatal(err)
	}
	client := registered(t, i, openfeature.Options{})
	for _, r := range []phases.Route{
		{Phase: phases.ShadowWrite},
		{Phase: phases.DualRead, Percent: 100},
		{Phase: phases.Cutover, Percent: 100},
		{Phase: phases.Cutover, Percent: 5000},
		{Phase: phases.Grace},
	} {
		if err := fleet.Move(ctx, r.Phase, r.Percent); err != nil {
			t.Fatal(err)
		}
		for n := range 200 {
			key := "key " + strconv.Itoa(n)
			want, _, err := reader.Get(ctx, key)
			if err != nil {
				t.Fatal(err)
			}
			if got := client.String(ctx, "migrator.products.read", "", of(key)); got != want {
				t.Errorf("%s %s: %s, the instance reads %s", r, key, got, want)
			}
		}
	}
}
