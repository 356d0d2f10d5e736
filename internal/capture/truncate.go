package capture

import (
	"context"
	"fmt"
	"time"

	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// opensMargin is added to the wait for writes from before a TRUNCATE: clocks are read over a network.
const opensMargin = 250 * time.Millisecond

// truncated brings a TRUNCATE: what the target has that is older becomes tombstones.
//
// [capture-truncated]: known keys alone are not enough. A late write of the application, from before, would
// bring its record back: so the sweep is repeated once every not-after from before is over.
func (a *applier) truncated(ctx context.Context, b *batch) error {
	what := "legacy's table was truncated"
	if b.alone.partly && !b.alone.truncated {
		what = "a part of legacy's table was truncated"
	}
	if err := a.Ledger.Unclean(ctx, what); err != nil {
		return fmt.Errorf("mark the migration unclean: %w", err)
	}
	s := Sweep{Version: b.at, Partly: b.alone.partly && !b.alone.truncated}
	if err := a.sweep(ctx, s); err != nil {
		return err
	}
	now, err := a.Target.Now(ctx)
	if err != nil {
		return fmt.Errorf("read the target's clock: %w", err)
	}
	s.Opens = now.Add(a.NotAfter + opensMargin)
	a.sweeps = append(a.sweeps, s)
	return nil
}

// due repeats the sweeps whose time has come.
func (a *applier) due(ctx context.Context) (swept bool, err error) {
	if len(a.sweeps) == 0 {
		return false, nil
	}
	now, err := a.Target.Now(ctx)
	if err != nil {
		return false, fmt.Errorf("read the target's clock: %w", err)
	}
	for len(a.sweeps) > 0 && now.After(a.sweeps[0].Opens) {
		if err := a.sweep(ctx, a.sweeps[0]); err != nil {
			return swept, err
		}
		a.sweeps, swept = a.sweeps[1:], true
	}
	return swept, nil
}

func (a *applier) sweep(ctx context.Context, s Sweep) error {
	list := a.listByScan
	if lister, ok := a.Target.(store.StaleLister); ok {
		list = lister.ListStale
	}
	err := list(ctx, s.Version, func(keys []record.Key) error {
		items := make([]item, 0, len(keys))
		seen := make(map[record.Key]bool, len(keys))
		for _, key := range keys {
			if !seen[key] {
				seen[key] = true
				items = append(items, item{key, versioned{change{deleted: true}, s.Version}})
			}
		}
		if !s.Partly {
			return a.items(ctx, items)
		}
		return a.sweepAbsent(ctx, items)
	})
	if err != nil {
		return fmt.Errorf("sweep the target after a TRUNCATE: %w", err)
	}
	return nil
}

// sweepAbsent is for a TRUNCATE of some partitions: which keys they had, no log says. Rows that legacy lacks now
// are read once more under the rule of repair.
func (a *applier) sweepAbsent(ctx context.Context, items []item) error {
	keys := make([]record.Key, len(items))
	for n := range items {
		keys[n] = items[n].key
	}
	rows, err := a.Legacy.Lookup(ctx, keys)
	if err != nil {
		return err
	}
	var absent []item
	for n, row := range rows {
		if !row.Found && row.Equal == "" {
			i := items[n]
			i.version, i.deleted, i.locked = record.Version{}, false, true
			absent = append(absent, i)
		}
	}
	if len(absent) == 0 {
		return nil
	}
	return a.items(ctx, absent)
}

func (a *applier) listByScan(ctx context.Context, than record.Version, yield func([]record.Key) error) error {
	return a.Target.Scan(ctx, func(entries []store.Entry) error {
		var keys []record.Key
		for i := range entries {
			if entries[i].IsStale(than) && entries[i].Key != "" {
				keys = append(keys, entries[i].Key)
			}
		}
		if len(keys) == 0 {
			return ctx.Err()
		}
		return yield(keys)
	})
}
