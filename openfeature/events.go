package openfeature

import (
	"strings"
	"time"

	"github.com/open-feature/go-sdk/openfeature"
)

// Init implements openfeature.StateHandler: it begins to look for events.
func (p *Provider) Init(openfeature.EvaluationContext) error {
	p.once.Do(func() { p.ended.Go(p.watch) })
	return nil
}

// Shutdown implements openfeature.StateHandler. The instances stay as they are.
func (p *Provider) Shutdown() {
	p.once.Do(func() {}) // an Init afterwards begins nothing
	select {
	case <-p.stop:
	default:
		close(p.stop)
	}
	p.ended.Wait()
}

// EventChannel implements openfeature.EventHandler.
func (p *Provider) EventChannel() <-chan openfeature.Event { return p.events }

// watch emits an event for each route that is new, and for each change of the worst condition.
func (p *Provider) watch() {
	tick := time.NewTicker(p.options.LookEvery)
	defer tick.Stop()
	worst := fresh
	epochs := make([]int64, len(p.migrations))
	for i, m := range p.migrations {
		epochs[i] = m.answer.Load().route.Epoch
	}
	for {
		is := fresh
		var lapsed []string
		for i, m := range p.migrations {
			now := m.assess(p.options.FailAfter)
			is = max(is, now)
			if now != fresh {
				lapsed = append(lapsed, m.name)
			}
			a := m.look()
			if a.route.Epoch == epochs[i] {
				continue
			}
			epochs[i] = a.route.Epoch
			p.emit(openfeature.ProviderConfigChange, openfeature.ProviderEventDetails{
				FlagChanges:   m.flags(),
				EventMetadata: map[string]any{"migration": m.name, "phase": string(a.route.Phase), "epoch": a.route.Epoch},
			})
		}
		if is != worst {
			worst = is
			message := "without a lease: " + strings.Join(lapsed, ", ")
			switch is {
			case fresh:
				p.emit(openfeature.ProviderReady, openfeature.ProviderEventDetails{Message: "every instance has its lease"})
			case stale:
				p.emit(openfeature.ProviderStale, openfeature.ProviderEventDetails{Message: message})
			case over:
				p.emit(openfeature.ProviderError, openfeature.ProviderEventDetails{Message: message, ErrorCode: openfeature.GeneralCode})
			}
		}
		select {
		case <-tick.C:
		case <-p.stop:
			return
		}
	}
}

// assess notes how good the answers are.
func (m *migration) assess(failAfter time.Duration) condition {
	is := fresh
	switch {
	case !m.source.Lapsed():
		m.since = time.Time{}
	case m.since.IsZero():
		m.since = time.Now()
		is = stale
	case time.Since(m.since) < failAfter:
		is = stale
	default:
		is = over
	}
	m.is.Store(uint32(is))
	return is
}

func (m *migration) flags() []string {
	all := []string{}
	for _, kind := range []string{"phase", "read", "routing", "sampled"} {
		all = append(all, "migrator."+m.name+"."+kind)
	}
	return all
}

// emit waits for a reader: the SDK has one for as long as the provider is registered.
func (p *Provider) emit(t openfeature.EventType, d openfeature.ProviderEventDetails) {
	select {
	case p.events <- openfeature.Event{ProviderName: name, EventType: t, ProviderEventDetails: d}:
	case <-p.stop:
	}
}
