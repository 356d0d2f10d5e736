package preflight

import (
	"context"
	"strings"

	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/store"
)

// checkChanged lists the keys that an apply would store, or refuses them.
func (p *Preflight) checkChanged(ctx context.Context, r *Report) {
	st, err := p.state(ctx)
	if err != nil {
		return // a check has reported it, or there is no state yet
	}
	if check, found := changed(ctx, st, p.Config); found {
		r.add("migration-file", []store.Check{check})
	}
}

// changed compares the migration file with the applied one. It finds nothing where they are the
// same, or the migration is new.
func changed(ctx context.Context, st *state.Store, m *migration.Config) (check store.Check, found bool) {
	file, err := state.ToApply(m)
	if err != nil {
		return refusal("changes", err), true
	}
	changes, err := st.Compare(ctx, file)
	if err != nil {
		return refusal("changes", err), true
	}
	if len(changes) == 0 {
		return check, false
	}
	var keys []string
	for _, c := range changes {
		keys = append(keys, c.Key)
	}
	return store.Check{Name: "changes", Result: store.Good, Detail: "the file differs from the applied one: " + strings.Join(keys, ", ")}, true
}
