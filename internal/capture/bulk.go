package capture

import (
	"context"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// bulkRows is how many rows are loaded at once.
const bulkRows = 2500

// load brings the states of one large transaction: those of new keys in blocks, as a backfill does, and all others
// one by one.
func (a *applier) load(ctx context.Context, states map[record.Key]change, at record.Version) error {
	target, ok := a.Target.(store.BulkLoader)
	items := make([]item, 0, len(states))
	if !ok || !target.CanBulkLoad() {
		for key, c := range states {
			items = append(items, item{key, versioned{c, at}})
		}
		return a.items(ctx, items)
	}
	var whole []item
	for key, c := range states {
		i := item{key, versioned{c, at}}
		if c.whole() && !c.deleted {
			whole = append(whole, i)
		} else {
			items = append(items, i)
		}
	}
	var mu sync.Mutex
	var g errgroup.Group
	g.SetLimit(a.Workers)
	for from := 0; from < len(whole); from += bulkRows {
		some := whole[from:min(from+bulkRows, len(whole))]
		notAfter, err := a.turn(ctx, len(some))
		if err != nil {
			_ = g.Wait()
			return err
		}
		g.Go(func() error {
			written := make([]bool, len(some))
			if target.BulkLoad(ctx, store.BulkWrite{Block: blockOf(some), Version: at, NotAfter: notAfter}, written) != nil {
				clear(written) // single writes retry, and their errors name the cause
			}
			var done []item
			mu.Lock()
			defer mu.Unlock()
			for n, is := range written {
				if is {
					done = append(done, some[n])
				} else {
					items = append(items, some[n])
				}
			}
			a.memory.keep(done, nil)
			return nil
		})
	}
	_ = g.Wait()
	if len(items) == 0 {
		return ctx.Err()
	}
	return a.items(ctx, items)
}

// blockOf copies items that are whole records.
func blockOf(items []item) *record.Block {
	b := &record.Block{}
	b.Reset(len(items[0].record))
	for i := range items {
		for _, v := range items[i].record {
			if v.State == record.Present {
				b.Add(append(b.Buffer(), v.Text...))
			} else {
				b.AddNull()
			}
		}
	}
	return b
}
