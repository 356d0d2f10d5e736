package drill

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/internal/humanize"
	"github.com/stranglerfig/migrator/record"
)

// recover lets the load continue for a while, and waits until the journal is empty.
func (r *rehearsal) recover(ctx context.Context) (string, error) {
	before := r.Load.Totals()
	on := time.NewTimer(r.After)
	defer on.Stop()
	select {
	case <-ctx.Done():
		return "", ctx.Err()
	case <-on.C:
	}
	if r.Load.Totals().Writes == before.Writes {
		if err := r.loadError(); err != nil {
			return "", err
		}
		return "", fmt.Errorf("recovery failed: no write was acknowledged in the %s after the rollback", r.After)
	}
	r.Load.Stop()
	left := int64(0)
	ok, err := r.await(ctx, func(ctx context.Context) (bool, error) {
		e, err := r.snapshot(ctx)
		left = e.Status.JournalKeys
		return err == nil && left == 0, err
	})
	switch {
	case ok:
		r.mark(r.now(), "recovered")
		return "the journal is empty", nil
	case over(ctx, err):
		return "", fmt.Errorf("recovery failed: %s still journaled after %s", humanize.Counted(left, "key")+humanize.Either(left, " is", " are"), r.Within)
	}
	return "", err
}

// check compares the ledger with what can be read now.
func (r *rehearsal) check(ctx context.Context) (string, error) {
	c, controlFound, err := r.Load.Check(ctx)
	if err != nil {
		return "", fmt.Errorf("check the ledger: %w", err)
	}
	r.r.Ledger = &c
	r.r.Controls = &Controls{QuietWithoutFault: true, NegativeControlFound: controlFound} // otherwise baseline would have ended the drill
	if !controlFound {
		r.fail("the ledger's check can't fail: it did not report the negative control, a write that was never made, as lost")
	}
	if r.r.Fault.Kind == dual.FaultCorrupt && c.Behind > 0 {
		return "", errors.New("the target has older versions than acknowledged, which the injected corruption does not cause")
	}
	switch {
	case c.Records == 0:
		r.fail("the ledger is empty: there is no acknowledged write to check")
	case !c.OK():
		r.fail("%s", c.wrong())
	}
	return fmt.Sprintf("%d records: %d lost, %s", c.Records, c.Lost, watchedText(c.Stale, "stale")), nil
}

// plant removes records from the target. A reconcile run that does not find these
// differences would prove nothing by finding none.
func (r *rehearsal) plant(ctx context.Context) (string, error) {
	r.dirty = true
	keys, err := r.Plant.Plant(ctx)
	if err != nil {
		return "", err
	}
	if len(keys) == 0 {
		return "", errors.New("no record could be removed from the target")
	}
	r.r.Controls.Planted = keys
	return humanize.Counted(len(keys), "record") + humanize.Either(len(keys), " was", " were") + " removed from the target", nil
}

func (r *rehearsal) repair(ctx context.Context) (string, error) {
	run, found, err := r.runReconcile(ctx, "planted", true)
	if err != nil {
		return "", err
	}
	r.dirty = run.Repaired < run.Differences
	c := r.r.Controls
	var missed []record.Key
	for _, k := range c.Planted {
		if slices.Contains(found, k) {
			c.PlantedFound++
		} else {
			missed = append(missed, k)
		}
	}
	rewritten, err := r.Plant.Rewritten(ctx, missed)
	if err != nil {
		return "", err
	}
	c.PlantedRewritten = len(rewritten)
	others := run.Differences - int64(c.PlantedFound)
	switch corrupt := r.r.Fault.Kind == dual.FaultCorrupt; {
	case c.PlantedFound+c.PlantedRewritten < len(c.Planted):
		r.fail("reconcile found %d of %d planted differences", c.PlantedFound, len(c.Planted)-c.PlantedRewritten)
	case c.PlantedFound == 0:
		r.fail("the load overwrote each planted difference before reconcile could find it: the control proves nothing")
	case corrupt && others == 0:
		r.fail("the target was corrupted, but reconcile found no difference")
	case !corrupt && others > 0:
		r.fail("reconcile run %d found %d differences besides the planted ones", run.Run, others)
	}
	return fmt.Sprintf("%d of %d planted found, %d others, %d repaired", c.PlantedFound, len(c.Planted), others, run.Repaired), nil
}

func (r *rehearsal) compareAfter(ctx context.Context) (string, error) {
	run, _, err := r.runReconcile(ctx, "after", false)
	if err != nil {
		return "", err
	}
	if run.Differences > 0 {
		r.fail("the stores differ after the drill: %d differences in reconcile run %d", run.Differences, run.Run)
	}
	return fmt.Sprintf("%d records, %d differences, %d unsettled", run.Checked, run.Differences, run.Unsettled), nil
}
