package preflight

import (
	"context"
	"fmt"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/store"
)

// checkFence compares legacy's fence with the state's record of it. They differ if the
// migration of another state database raised it, or if this one has lost transactions.
func (p *Preflight) checkFence(ctx context.Context, legacy store.Legacy) []store.Check {
	attempt, _, err := legacy.FenceState(ctx)
	if err != nil {
		return nil // nothing is installed yet
	}
	refused := func(detail string, h hint.Hint) []store.Check {
		return []store.Check{{Name: "standing-fence", Result: store.Refused, Detail: detail, Hint: h}}
	}
	st, known := p.status(ctx)
	switch at := st.Route.Phase; {
	case attempt == "" && (at == phases.Fenced || at == phases.Retain || at == phases.Returning):
		// The fence may have been raised or lifted between the two reads.
		again, _, err := legacy.FenceState(ctx)
		if now, _ := p.status(ctx); err != nil || again != "" || now.Route != st.Route {
			return nil
		}
		return refused(fmt.Sprintf("the state database has %s (epoch %d), but legacy has no fence and takes writes: the database has lost transactions (restored from an older backup?)", st.Route, st.Route.Epoch), phases.StateLossHint())
	case attempt == "", known && (st.Attempt == attempt || at == phases.Complete):
		return nil
	case known:
		return refused(fmt.Sprintf("a migration has fenced the table (attempt %s), but the state database has %s (epoch %d): it has lost transactions (restored from an older backup?), or is another one; records may be in the target alone", attempt, st.Route, st.Route.Epoch), phases.StateLossHint())
	}
	return refused("a migration has fenced the table (attempt "+attempt+") that the state database does not have: its records may be in the target alone",
		hint.Hint{Do: hint.LiftFence, Of: []string{attempt}, Text: "if legacy is to take writes again as it is; or restore the state database"})
}
