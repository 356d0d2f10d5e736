// Package preflight checks settings, state database and stores before a migration is
// applied, and while it runs. It changes nothing.
package preflight

import (
	"context"

	"github.com/stranglerfig/migrator/internal/capture"
	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// Report is the result of the checks.
type Report struct {
	Migration string         `json:"migration"`
	Checks    []store.Check  `json:"checks"`
	Phases    []PlannedPhase `json:"phases,omitempty"`
	Fields    []record.Field `json:"fields,omitempty"`
	Refused   int            `json:"refused"`
	Warnings  int            `json:"warnings"`
	Unchecked int            `json:"unchecked"` // of which nothing is known
}

// Preflight checks a migration.
type Preflight struct {
	Config *migration.Config // nil: there is no migration file
	// TakeOver accepts that the target's keys are another migration's.
	TakeOver    bool
	SecretFiles []string // that the settings and the migration file name
	// Applying leaves changes of columns to the apply that follows: it decides about them.
	Applying bool
	// StateURL returns the state database's URL, or why it is not known.
	StateURL func() (string, error)
	// CheckSources asks the outside sources of gates and triggers. nil: they are not asked.
	CheckSources func(ctx context.Context, m *migration.Config) []store.Check
	// OpenState opens the state database: once for each call of Check, Plan and Diagnose.
	OpenState func(ctx context.Context) (*state.Store, error)

	opened *openedState // nil: not yet
}

type openedState struct {
	store *state.Store
	err   error
}

// state opens the state database at its first call; closeState closes it.
func (p *Preflight) state(ctx context.Context) (*state.Store, error) {
	if p.opened == nil {
		p.opened = &openedState{}
		p.opened.store, p.opened.err = p.OpenState(ctx)
	}
	return p.opened.store, p.opened.err
}

func (p *Preflight) closeState() {
	if p.opened != nil && p.opened.err == nil {
		p.opened.store.Close()
	}
	p.opened = nil
}

// Check makes every check whose preconditions hold. It needs Config.
func (p *Preflight) Check(ctx context.Context) *Report {
	defer p.closeState()
	return p.check(ctx)
}

func (p *Preflight) check(ctx context.Context) *Report {
	m := p.Config
	r := &Report{Migration: m.Name}
	p.checkState(ctx, r)
	r.add("settings", p.checkFiles())
	r.add("webhooks", checkSecrets(m.Webhooks))
	if p.CheckSources != nil {
		r.add("prometheus", p.CheckSources(ctx, m))
	}
	if _, err := p.state(ctx); err != nil {
		r.unseen("state", "what is applied, marks, parts and columns can't be compared with it: the state database can't be opened")
	}
	r.add("production", CheckProduction(m))
	r.add("state", p.checkDeciders(ctx))
	p.checkGrants(ctx, r)
	p.checkChanged(ctx, r)
	applied, phase := p.appliedColumns(ctx)
	if applied != nil && phase != phases.Legacy && !p.Applying {
		m = applied // what is moved, whatever the table has by now
	}
	legacy, err := m.OpenLegacy(ctx)
	if err != nil {
		r.refuse("legacy", err)
		r.unseen("target", "it was not looked at, since legacy can't be opened")
		return r
	}
	defer legacy.Close()
	checks, err := legacy.Check(ctx)
	r.add("legacy", checks)
	if err != nil {
		r.refuse("legacy", err)
	}
	r.add("legacy", capture.Check(ctx, legacy, m.Capture.Mode))
	r.add("legacy", capture.CheckOrphans(ctx, legacy))
	r.add("legacy", p.checkFence(ctx, legacy))
	r.add("legacy", p.checkParts(ctx, legacy))
	if finder, ok := legacy.(store.RecentFinder); ok && m.Reconcile.Recent.Column != "" {
		if err := finder.CheckRecent(ctx, m.Reconcile.Recent.Column); err != nil {
			r.add("legacy", []store.Check{refusal("young", err)})
		}
	}
	r.Fields = legacy.Schema().Fields
	target, err := m.OpenTarget(ctx, legacy.Schema())
	if err != nil {
		r.refuse("target", err)
		return r
	}
	defer func() { _ = target.Close() }()
	checks, err = target.Check(ctx)
	r.add("target", checks)
	if err != nil {
		r.refuse("target", err)
	}
	if pair, ok := target.(store.PairChecker); ok {
		checks, err = pair.CheckPair(ctx, legacy)
		r.add("target", checks)
		if err != nil {
			r.refuse("target", err)
		}
	}
	r.add("target", p.checkMark(ctx, target))
	p.checkColumns(ctx, r, applied, legacy, target)
	if _, err := record.NewComparer(legacy.Schema(), m.Compare); err != nil {
		r.refuse("compare", err)
	}
	r.add("legacy", p.checkTaken(ctx, legacy, target))
	return r
}

// Plan makes the checks and lists the phases ahead.
func (p *Preflight) Plan(ctx context.Context) *Report {
	r := p.Check(ctx)
	r.Phases = plannedPhases(p.Config.Settings())
	return r
}

// Diagnose makes the checks, if there is a migration file, and adds the symptoms of every
// migration that the state has.
func (p *Preflight) Diagnose(ctx context.Context) *Report {
	defer p.closeState()
	r := &Report{}
	if p.Config != nil {
		r = p.check(ctx)
	} else {
		p.checkState(ctx, r)
		r.unseen("stores", "legacy and the target were not looked at: no migration file is given")
	}
	st, err := p.state(ctx)
	if err != nil {
		r.unseen("migrations", "fleet, journal, fence, daemon and history were not looked at: the state database can't be opened")
		return r
	}
	all, err := st.List(ctx)
	if err != nil {
		r.refuse("migrations", err)
		return r
	}
	for _, one := range all {
		var own []store.Check
		if p.Config != nil && p.Config.Name == one.Migration {
			own = r.Checks
		}
		r.add(one.Migration, symptoms(ctx, st, one, p.Config, own))
	}
	return r
}

func (p *Preflight) checkState(ctx context.Context, r *Report) {
	if url, err := p.StateURL(); err != nil {
		r.refuse("state", err)
	} else {
		r.add("state", p.checkSessions(ctx))
		r.add("state", state.Check(ctx, url))
	}
}

// Contents are the warnings of what the target has that a backfill would replace or delete.
func (r *Report) Contents() (warnings []store.Check) {
	name := store.OfSide("target", []store.Check{{Name: store.ContentsCheck}})[0].Name
	for _, c := range r.Checks {
		if c.Name == name && c.Result == store.Warned {
			warnings = append(warnings, c)
		}
	}
	return warnings
}

func (r *Report) add(side string, checks []store.Check) {
	for _, check := range store.OfSide(side, checks) {
		switch check.Result {
		case store.Refused:
			r.Refused++
		case store.Warned:
			r.Warnings++
		case store.Unchecked:
			r.Unchecked++
		}
		r.Checks = append(r.Checks, check)
	}
}

// unseen adds that something could not be looked at: silence would be taken for health.
func (r *Report) unseen(side, why string) {
	r.add(side, []store.Check{{Name: "unseen", Result: store.Unchecked, Detail: why}})
}

func (r *Report) refuse(side string, err error) {
	r.add(side, []store.Check{refusal("open", err)})
}

func refusal(name string, err error) store.Check {
	h, _ := hint.Of(err)
	return store.Check{Name: name, Result: store.Refused, Detail: err.Error(), Hint: h}
}

func (p *Preflight) status(ctx context.Context) (st phases.Status, known bool) {
	s, err := p.state(ctx)
	if err != nil {
		return st, false
	}
	st, err = s.Status(ctx, p.Config.Name)
	return st, err == nil
}
