package drill

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/record"
)

// recover lets the load go on for a while, and waits until no key is known to be behind.
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
		return "", fmt.Errorf("unfinished recovery: no write was acknowledged in the %s after the rollback", r.After)
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
		return "", fmt.Errorf("unfinished recovery: %d keys of the target are still known to be behind after %s", left, r.Within)
	}
	return "", err
}

// check holds the ledger against what can be read now.
func (r *rehearsal) check(ctx context.Context) (string, error) {
	c, controlFound, err := r.Load.Check(ctx)
	if err != nil {
		return "", fmt.Errorf("the ledger could not be checked: %w", err)
	}
	r.r.Ledger = &c
	r.r.Controls = &Controls{QuietWithoutFault: true, NegativeControlFound: controlFound} // else calm had ended the drill
	if !controlFound {
		r.fail("the ledger's check can't fail: it has not missed a write that never was")
	}
	if r.r.Fault.Kind == dual.FaultCorrupt && c.Behind > 0 {
		return "", errors.New("the ledger finds versions behind in the target, which the corruption has not touched")
	}
	switch {
	case c.Records == 0:
		r.fail("the ledger is empty: no acknowledged write can be looked for")
	case !c.OK():
		r.fail("of %d records %d writes are lost and %d are stale, %d are older in the target than acknowledged, %d reads were stale", c.Records, c.Lost, c.Stale, c.Behind, c.StaleReads)
	}
	return fmt.Sprintf("%d records: lost %d, stale %d", c.Records, c.Lost, c.Stale), nil
}

// plant takes records out of the target: a reconcile that does not find them proves
// nothing either where it finds nothing.
func (r *rehearsal) plant(ctx context.Context) (string, error) {
	r.dirty = true
	keys, err := r.Plant.Plant(ctx)
	if err != nil {
		return "", err
	}
	if len(keys) == 0 {
		return "", errors.New("no record of the target could be taken out of it")
	}
	r.r.Controls.Planted = keys
	return fmt.Sprintf("%d records were taken out of the target", len(keys)), nil
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
		r.fail("reconcile has found %d of %d planted differences", c.PlantedFound, len(c.Planted)-c.PlantedRewritten)
	case c.PlantedFound == 0:
		r.fail("each planted difference was written over before reconcile could find it: nothing shows that it can")
	case corrupt && others == 0:
		r.fail("the target was corrupted, and reconcile has found nothing of it")
	case !corrupt && others > 0:
		r.fail("reconcile run %d has found %d differences that nobody planted", run.Run, others)
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
	return fmt.Sprintf("%d records, %d differences, %d changed at every look", run.Checked, run.Differences, run.Unsettled), nil
}
