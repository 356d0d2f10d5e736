package control

import (
	"context"

	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/store"
)

// WatchParts compares the parts of legacy's table with those that were noted last, and notes the
// new ones. It returns how they have changed since then, and whether records are lost by that: of
// a part that is gone, which the target still has, and behind the fence those of a new part too,
// which the target lacks. The migration is unclean then.
func (c *Controller) WatchParts(ctx context.Context) (changes string, lost bool, err error) {
	e, err := c.State.Snapshot(ctx, c.Migration)
	if err != nil {
		return "", false, err
	}
	return c.watchParts(ctx, e.Status)
}

// noteFence notes since when legacy refuses writes. With lost, legacy has lost the fence and not
// got it back yet: what it took since then can be listed.
func (c *Controller) noteFence(ctx context.Context, attempt string, lost bool) error {
	l, ok := c.Legacy.(store.ChangeLister)
	if !ok {
		return nil
	}
	noted, _, err := c.State.FenceMark(ctx, c.Migration, attempt)
	if err != nil {
		return err
	}
	mark, err := l.FenceMark(ctx, attempt, noted)
	if err != nil {
		return err
	}
	return c.State.NoteFence(ctx, c.Migration, attempt, mark, lost)
}

func (c *Controller) watchParts(ctx context.Context, st phases.Status) (changes string, lost bool, err error) {
	w, ok := c.Legacy.(store.PartWatcher)
	if !ok || st.Route.Phase == phases.Complete {
		return "", false, nil // a complete migration's legacy may be dropped
	}
	before, err := c.State.Parts(ctx, c.Migration)
	if err != nil {
		return "", false, err
	}
	now, err := w.Parts(ctx)
	if err != nil {
		return "", false, err
	}
	if before == nil { // applied by a release that noted none
		return "", false, c.State.AcceptParts(ctx, c.Migration, now)
	}
	changes, gone, come, err := w.PartChanges(ctx, before, now)
	if err != nil || changes == "" {
		return "", false, err
	}
	// [parts-watched]: in legacy nothing has moved yet. While legacy takes writes, a new part's
	// records may be the application's own.
	lost = st.Route.Phase != phases.Legacy && (gone || come && st.Route.Phase.Fenced())
	noted, err := c.State.NoteParts(ctx, c.Migration, before, now, changes, lost)
	if err != nil || !noted {
		return "", false, err
	}
	return changes, lost, nil
}
