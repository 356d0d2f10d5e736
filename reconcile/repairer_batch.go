package reconcile

import (
	"context"
	"time"

	"github.com/stranglerfig/migrator/internal/failpoint"
	"github.com/stranglerfig/migrator/internal/sleep"
	"github.com/stranglerfig/migrator/record"
)

// repairBatch repairs queued differences and reads each again.
func (p *repairer) repairBatch(ctx context.Context, queued []*queuedRepair, journal map[record.Key]record.Version) error {
	done, err := p.rule.Repair(ctx, items(queued, journal))
	if err != nil {
		return err
	}
	failpoint.Here("reconcile.fixed")
	check := map[record.Key]record.Version{}
	for i, q := range queued {
		switch {
		case done[i].Err != nil:
			q.Repair = "failed: " + done[i].Err.Error()
		default:
			q.Repair = string(done[i].Action)
			if !done[i].Action.Leaves() {
				check[q.Key] = done[i].Version
			}
		}
	}
	wrong, err := p.verify(ctx, check)
	if err != nil {
		return err
	}
	for _, q := range queued {
		_, tried := check[q.Key]
		why, failed := wrong[q.Key]
		q.Repaired = tried && !failed
		if failed {
			q.Repair += "; " + why
		}
	}
	return nil
}

// verify reads repaired keys again and returns those that still differ, with the
// reason. A later version than the repair's is a live write's, and proves the repair.
func (p *repairer) verify(ctx context.Context, repaired map[record.Key]record.Version) (map[record.Key]string, error) {
	keys := make([]record.Key, 0, len(repaired))
	for k := range repaired {
		keys = append(keys, k)
	}
	wrong := map[record.Key]string{}
	for try := range 6 {
		if len(keys) == 0 {
			break
		}
		if try > 0 {
			if err := sleep.For(ctx, min(p.pause, 50*time.Millisecond<<try)); err != nil {
				return nil, err
			}
		}
		read, _, err := p.stores.snapshots(ctx, keys)
		if err != nil {
			return nil, err
		}
		keys = keys[:0]
		clear(wrong)
		for _, s := range read {
			k := s.entry.Key
			if p.rules.agreed(s) || s.entry.Version.NewerThan(repaired[k]) {
				continue
			}
			keys = append(keys, k)
			wrong[k] = "still different"
			if f := p.rules.difference(s); f != nil && f.Path != "" {
				wrong[k] += " in " + f.Path + ": the mapping may not keep this field"
			}
		}
	}
	return wrong, nil
}
