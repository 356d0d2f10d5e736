package preflight

import (
	"context"

	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/store"
)

// appliedColumns is the migration file with the columns that are applied, and the phase; nil if none
// are.
func (p *Preflight) appliedColumns(ctx context.Context) (*migration.Config, phases.Phase) {
	s, err := p.state(ctx)
	if err != nil {
		return nil, ""
	}
	e, applied, err := s.Open(ctx, p.Config.Name)
	if err != nil {
		return nil, ""
	}
	own := *p.Config
	if own.Schema, err = applied.Columns(); err != nil || own.Schema == nil {
		return nil, ""
	}
	return &own, e.Status.Route.Phase
}

// checkColumns compares the columns of both stores with those that are applied. It notes nothing:
// the daemon does, and each step forward.
func (p *Preflight) checkColumns(ctx context.Context, r *Report, applied *migration.Config, legacy store.Legacy, target store.Target) {
	if applied == nil || p.Applying {
		return
	}
	for _, side := range []struct {
		name  string
		store any
	}{{"legacy", legacy}, {"target", target}} {
		w, ok := side.store.(store.ColumnWatcher)
		if !ok {
			continue
		}
		changes, err := w.ColumnChanges(ctx, applied.Schema)
		if err != nil {
			r.add(side.name, []store.Check{refusal("columns", err)})
		}
		for _, c := range changes {
			check := store.Check{Name: "columns", Result: store.Warned, Detail: c.Detail, Hint: phases.ColumnHint(phases.Column(c))}
			if c.Broken {
				check.Result = store.Refused
			}
			r.add(side.name, []store.Check{check})
		}
	}
}
