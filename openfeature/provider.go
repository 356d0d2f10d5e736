// Package openfeature answers OpenFeature's flags of migrations inside a Go application that embeds dual: from the routes
// of its instances, which have leases, without a call over the network.
//
// The flags are those that migrator serve answers over OFREP, with the same values: migrator.<migration>.phase, .read,
// .routing and .sampled. The evaluation context's targeting key is the record's key. Unlike a remote client's, the answers
// follow the instance's lease: see Provider.
package openfeature

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/open-feature/go-sdk/openfeature"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/phases"
)

// Source is what follows a migration's route.
type Source interface {
	Route() phases.Route
	Lapsed() bool // its lease has expired
}

var _ Source = (*dual.Instance)(nil)

// Options of a provider; zero values are the defaults.
type Options struct {
	// FailAfter is how long a lapsed instance's answers are given, as stale, before evaluations fail (a minute).
	FailAfter time.Duration
	// LookEvery is how often routes and leases are looked at for events (50 ms). Evaluations look at the route by
	// themselves; to read a clock in each costs as much as the rest of it.
	LookEvery time.Duration
	// Lease is what the flag routing shows as leaseSeconds (15 s).
	Lease time.Duration
}

// Provider is an OpenFeature provider of migrations. It is READY while every instance has its lease, STALE while one has
// not, and in ERROR once one has had none for FailAfter; then evaluations of that migration fail, and the caller's
// default counts.
//
// From cutover to grace, an instance whose lease has expired reads legacy: so does the flag read, within LookEvery of the
// expiry. A caller that reads the target by it must have read it before the lease ends; only dual's Reader checks the
// lease after the read.
type Provider struct {
	options    Options
	migrations []*migration
	flags      map[string]flag

	events chan openfeature.Event
	once   sync.Once
	stop   chan struct{}
	ended  sync.WaitGroup
}

var (
	_ openfeature.FeatureProvider = (*Provider)(nil)
	_ openfeature.StateHandler    = (*Provider)(nil)
	_ openfeature.EventHandler    = (*Provider)(nil)
)

const name = "migrator"

// New makes a provider of migrations, by their names. Register it with openfeature.SetProviderAndWait.
func New(sources map[string]Source, o Options) (*Provider, error) {
	if len(sources) == 0 {
		return nil, errors.New("openfeature: no migration is given")
	}
	if o.FailAfter < 0 || o.LookEvery < 0 || o.Lease < 0 {
		return nil, errors.New("openfeature: Options must not be negative")
	}
	if o.FailAfter == 0 {
		o.FailAfter = time.Minute
	}
	if o.LookEvery == 0 {
		o.LookEvery = 50 * time.Millisecond
	}
	if o.Lease == 0 {
		o.Lease = phases.LeaseTTL
	}
	p := &Provider{options: o, flags: map[string]flag{}, events: make(chan openfeature.Event, 64), stop: make(chan struct{})}
	for of, source := range sources {
		if source == nil {
			return nil, fmt.Errorf("openfeature: the migration %s has no instance", of)
		}
		m := &migration{name: of, source: source, lease: o.Lease}
		m.look() // the first answers
		p.migrations = append(p.migrations, m)
		for kind, k := range map[string]kind{"phase": phaseFlag, "read": readFlag, "routing": routingFlag, "sampled": sampledFlag} {
			p.flags["migrator."+of+"."+kind] = flag{m, k}
		}
	}
	return p, nil
}

// kind is a set of kinds of flags.
type kind uint8

const (
	phaseFlag kind = 1 << iota
	readFlag
	routingFlag
	sampledFlag
)

type flag struct {
	of   *migration
	kind kind
}

// condition is how good a migration's answers are.
type condition uint32

const (
	fresh condition = iota
	stale           // the lease has expired
	over            // long ago
)

type migration struct {
	name   string
	source Source
	lease  time.Duration
	is     atomic.Uint32 // condition
	since  time.Time     // of the lapse; of the looking goroutine alone
	answer atomic.Pointer[answers]
}

// answers are those for one route, made once: an evaluation allocates nothing.
type answers struct {
	route          phases.Route
	is             condition
	reads          phases.Reads
	fallback       bool
	share          phases.Percent // of keys that are compared
	shared         bool           // share is set
	phase          openfeature.StringResolutionDetail
	legacy, target openfeature.StringResolutionDetail
	sampled        [2]openfeature.BoolResolutionDetail
	routing        openfeature.InterfaceResolutionDetail
	detail         openfeature.ProviderResolutionDetail // where the caller's default counts
}

// look returns the answers for the route as it is now.
func (m *migration) look() *answers {
	r, is := m.source.Route(), condition(m.is.Load())
	// Every change of the route has an epoch of its own.
	if a := m.answer.Load(); a != nil && a.route.Epoch == r.Epoch && a.is == is {
		return a
	}
	a := newAnswers(r, is, m.lease)
	m.answer.Store(a)
	return a
}

func newAnswers(r phases.Route, is condition, lease time.Duration) *answers {
	b := r.Behaviour()
	metadata := openfeature.FlagMetadata{"epoch": r.Epoch}
	if is != fresh {
		metadata["stale"] = true
	}
	detail := func(reason openfeature.Reason, variant string) openfeature.ProviderResolutionDetail {
		return openfeature.ProviderResolutionDetail{Reason: reason, Variant: variant, FlagMetadata: metadata}
	}
	text := func(value string, reason openfeature.Reason) openfeature.StringResolutionDetail {
		return openfeature.StringResolutionDetail{Value: value, ProviderResolutionDetail: detail(reason, value)}
	}
	reading := openfeature.StaticReason
	if b.Reads == phases.ReadsSplit {
		reading = openfeature.SplitReason
	}
	a := &answers{
		route: r, is: is, reads: b.Reads, fallback: b.Fallback,
		phase:  text(string(r.Phase), openfeature.StaticReason),
		legacy: text("legacy", reading), target: text("target", reading),
		detail: detail(openfeature.DefaultReason, ""),
	}
	if is == over {
		a.detail.ResolutionError = openfeature.NewGeneralResolutionError("the instance has had no lease for long: what it knows is too old")
		a.detail.Reason = openfeature.ErrorReason
	}
	a.share, a.shared = r.CompareShare()
	comparing := openfeature.StaticReason
	if a.share > 0 && a.share < phases.All {
		comparing = openfeature.SplitReason
	}
	for i, value := range []bool{false, true} {
		a.sampled[i] = openfeature.BoolResolutionDetail{Value: value, ProviderResolutionDetail: detail(comparing, "")}
	}
	a.routing = openfeature.InterfaceResolutionDetail{Value: r.Routing(lease), ProviderResolutionDetail: detail(openfeature.StaticReason, "")}
	return a
}

// Metadata implements openfeature.FeatureProvider.
func (p *Provider) Metadata() openfeature.Metadata { return openfeature.Metadata{Name: name} }

// Hooks implements openfeature.FeatureProvider.
func (p *Provider) Hooks() []openfeature.Hook { return nil }

// find returns the answers for a flag of one of the kinds, or why there are none.
func (p *Provider) find(key string, kinds kind) (f flag, a *answers, failed *openfeature.ProviderResolutionDetail) {
	f, ok := p.flags[key]
	if !ok {
		return f, nil, failure(openfeature.NewFlagNotFoundResolutionError("there is no flag " + key))
	}
	a = f.of.look()
	switch {
	case f.kind&kinds == 0:
		return f, nil, failure(openfeature.NewTypeMismatchResolutionError("the flag " + key + " is of another type"))
	case a.is == over:
		return f, nil, &a.detail
	}
	return f, a, nil
}

func failure(e openfeature.ResolutionError) *openfeature.ProviderResolutionDetail {
	return &openfeature.ProviderResolutionDetail{ResolutionError: e, Reason: openfeature.ErrorReason}
}

// hashOf is the hash of the record's key, by which dual's Reader decides too.
func hashOf(in openfeature.FlattenedContext) (uint64, *openfeature.ProviderResolutionDetail) {
	switch key := in[openfeature.TargetingKey].(type) {
	case string:
		return xxhash.Sum64String(key), nil
	case nil:
		return 0, failure(openfeature.NewTargetingKeyMissingResolutionError("the targeting key is the key of the record"))
	}
	return 0, failure(openfeature.NewInvalidContextResolutionError("the targeting key is not a text"))
}

// StringEvaluation implements openfeature.FeatureProvider.
func (p *Provider) StringEvaluation(_ context.Context, key, defaultValue string, in openfeature.FlattenedContext) openfeature.StringResolutionDetail {
	f, a, failed := p.find(key, phaseFlag|readFlag)
	if failed != nil {
		return openfeature.StringResolutionDetail{Value: defaultValue, ProviderResolutionDetail: *failed}
	}
	if f.kind == phaseFlag {
		return a.phase
	}
	hash, failed := hashOf(in)
	switch {
	case failed != nil:
		return openfeature.StringResolutionDetail{Value: defaultValue, ProviderResolutionDetail: *failed}
	case a.reads == phases.ReadsLegacy, a.reads == phases.ReadsSplit && !a.route.Percent.Takes(hash):
		return a.legacy
	case a.fallback && a.is != fresh: // [lapsed-reads]: as dual's Reader
		return a.legacy
	}
	return a.target
}

// BooleanEvaluation implements openfeature.FeatureProvider.
func (p *Provider) BooleanEvaluation(_ context.Context, key string, defaultValue bool, in openfeature.FlattenedContext) openfeature.BoolResolutionDetail {
	_, a, failed := p.find(key, sampledFlag)
	var hash uint64
	if failed == nil {
		hash, failed = hashOf(in)
	}
	switch {
	case failed != nil:
		return openfeature.BoolResolutionDetail{Value: defaultValue, ProviderResolutionDetail: *failed}
	case !a.shared:
		return openfeature.BoolResolutionDetail{Value: defaultValue, ProviderResolutionDetail: a.detail}
	case a.share.Takes(hash):
		return a.sampled[1]
	}
	return a.sampled[0]
}

// ObjectEvaluation implements openfeature.FeatureProvider. The value is shared: it must not be changed.
func (p *Provider) ObjectEvaluation(_ context.Context, key string, defaultValue any, _ openfeature.FlattenedContext) openfeature.InterfaceResolutionDetail {
	_, a, failed := p.find(key, routingFlag)
	if failed != nil {
		return openfeature.InterfaceResolutionDetail{Value: defaultValue, ProviderResolutionDetail: *failed}
	}
	return a.routing
}

// FloatEvaluation implements openfeature.FeatureProvider: no flag is a number.
func (p *Provider) FloatEvaluation(_ context.Context, key string, defaultValue float64, _ openfeature.FlattenedContext) openfeature.FloatResolutionDetail {
	_, _, failed := p.find(key, 0)
	return openfeature.FloatResolutionDetail{Value: defaultValue, ProviderResolutionDetail: *failed}
}

// IntEvaluation implements openfeature.FeatureProvider: no flag is a number.
func (p *Provider) IntEvaluation(_ context.Context, key string, defaultValue int64, _ openfeature.FlattenedContext) openfeature.IntResolutionDetail {
	_, _, failed := p.find(key, 0)
	return openfeature.IntResolutionDetail{Value: defaultValue, ProviderResolutionDetail: *failed}
}
