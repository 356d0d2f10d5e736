package reconcile

import (
	"context"
	"time"

	"github.com/stranglerfig/migrator/internal/failpoint"
	"github.com/stranglerfig/migrator/internal/repair"
	"github.com/stranglerfig/migrator/internal/sleep"
	"github.com/stranglerfig/migrator/record"
)

// fix repairs the findings and reads each again. A repair's own failure is told in
// its finding.
func (r *work) fix(ctx context.Context, found []*held, journal map[record.Key]record.Version) error {
	items := make([]repair.Item, len(found))
	for i, f := range found {
		// [journal-version]: a difference may be a journaled key too.
		items[i] = repair.Item{Key: f.Key, Lost: journal[f.Key]}
	}
	fixed, err := r.fixer.Repair(ctx, items)
	if err != nil {
		return err
	}
	failpoint.Here("reconcile.fixed")
	check := map[record.Key]record.Version{}
	for i, f := range found {
		switch {
		case fixed[i].Err != nil:
			f.Repair = "failed: " + fixed[i].Err.Error()
		default:
			f.Repair = string(fixed[i].Action)
			if fixed[i].Action != repair.Left {
				check[f.Key] = fixed[i].Version
			}
		}
	}
	wrong, err := r.verify(ctx, check)
	if err != nil {
		return err
	}
	for _, f := range found {
		_, tried := check[f.Key]
		why, failed := wrong[f.Key]
		f.Repaired = tried && !failed
		if failed {
			f.Repair += "; " + why
		}
	}
	return nil
}

// verify reads repaired keys again and returns those whose repair did not hold.
// A later version than the repair's is a live write's, and counts as held.
func (r *work) verify(ctx context.Context, repaired map[record.Key]record.Version) (map[record.Key]string, error) {
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
			if err := sleep.For(ctx, min(r.Pause, 50*time.Millisecond<<try)); err != nil {
				return nil, err
			}
		}
		looks, _, err := r.look(ctx, keys)
		if err != nil {
			return nil, err
		}
		keys = keys[:0]
		clear(wrong)
		for _, l := range looks {
			k := l.entry.Key
			if r.same(l.row, l.entry, l.now) || l.entry.Version.NewerThan(repaired[k]) {
				continue
			}
			keys = append(keys, k)
			wrong[k] = "it differs still"
			if f := r.describe(l.row, l.entry, l.now); f != nil && f.Path != "" {
				wrong[k] += " in " + f.Path + ": the mapping may not keep this field"
			}
		}
	}
	return wrong, nil
}
