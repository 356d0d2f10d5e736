package dual

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/phases"
)

// writing are the settings that are applied now. An operation takes those of its pinned route.
func (i *Instance) writing() *Writing { return &i.pinned.Load().writing }

// applied reads what is applied, over which goes what the application set itself.
func (i *Instance) applied(ctx context.Context) (Writing, error) {
	if i.set.Applied == nil {
		return i.set.Writing, nil
	}
	w, err := i.set.Applied(ctx)
	if err != nil {
		return w, fmt.Errorf("read what is applied: %w", err)
	}
	// [not-after-applied]: barriers and returns wait as long as is applied, and a write of an
	// instance that takes longer would land behind them.
	w.NotAfter = cmp.Or(w.NotAfter, phases.NotAfter)
	if i.own.NotAfter > 0 {
		w.NotAfter = min(i.own.NotAfter, w.NotAfter)
	}
	for _, d := range []struct{ to, own *time.Duration }{
		{&w.Deadline, &i.own.Deadline}, {&w.RollbackBudget, &i.own.RollbackBudget}, {&w.FenceBudget, &i.own.FenceBudget},
	} {
		*d.to = cmp.Or(*d.own, *d.to)
	}
	w.OnTargetFailure, w.Queue = cmp.Or(i.own.OnTargetFailure, w.OnTargetFailure), cmp.Or(i.own.Queue, w.Queue)
	return w, w.defaults()
}

// follows returns the settings that go with a grant. Where they can't be read, the instance keeps
// those that it has, and what it counts from here on is no evidence for the grant's configuration.
func (i *Instance) follows(ctx context.Context, g *Grant) Writing {
	h := i.pinned.Load()
	if g.ConfigHash == h.configHash || g.OtherMoves || i.set.Applied == nil {
		return h.writing
	}
	w, err := i.applied(ctx)
	if err != nil {
		if !i.behind.Swap(true) {
			i.log.Warn("the applied settings can't be read; keeping the present ones", "epoch", g.Route.Epoch, "error", err, hint.Attr(err))
		}
		g.ConfigHash = ""
		return h.writing
	}
	i.behind.Store(false)
	return w
}
