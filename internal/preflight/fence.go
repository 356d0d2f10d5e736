package preflight

import (
	"context"
	"fmt"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/store"
)

// fenceAgrees compares legacy's fence with what the state says of it. They differ
// where another state database retired the table, or where this one has lost
// transactions.
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
		// It may have been raised, or lifted, since we asked.
		again, _, err := legacy.FenceState(ctx)
		if now, _ := p.status(ctx); err != nil || again != "" || now.Route != st.Route {
			return nil
		}
		return refused(fmt.Sprintf("the state database says %s (epoch %d), but no fence stands: legacy takes writes; the database has lost transactions (restored from an older backup?)", st.Route, st.Route.Epoch), phases.StateLossHint())
	case attempt == "", known && (st.Attempt == attempt || at == phases.Complete):
		return nil
	case known:
		return refused(fmt.Sprintf("a migration has retired the table (attempt %s), and the state database says %s (epoch %d): it has lost transactions (restored from an older backup?), or is another; records may be in the target alone", attempt, st.Route, st.Route.Epoch), phases.StateLossHint())
	}
	return refused("a migration has retired the table (attempt "+attempt+"), and the state database does not know of it: its records may be in the target alone",
		hint.Hint{Do: hint.LiftFence, Of: []string{attempt}, Text: "if legacy shall take writes again as it is; or restore the state database"})
}
