package reconcile

import (
	"context"

	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// rowComparer compares records one by one, a batch at a time. What the faster paths can't
// show to be the same is compared by it, and it decides.
type rowComparer struct {
	stores *stores
	rules  *rules
	pace   *pace
	ahead  *aheadFinder
	batch  int
	// progress is called after each batch, with the records that a job has compared.
	progress func(n int64)
}

// compared adds n records to the tally. They are reported at once, and count in the
// run when the job is done.
func (c *rowComparer) compared(t *Tally, n int64) {
	t.Checked += n
	c.progress(n)
}

// compare compares rows whose reading the pace has allowed already.
func (c *rowComparer) compare(ctx context.Context, rows []store.Row, t *Tally) error {
	for from := 0; from < len(rows); from += c.batch {
		batch := rows[from:min(from+c.batch, len(rows))]
		if err := c.compareBatch(ctx, batch, t); err != nil {
			return err
		}
		c.compared(t, int64(len(batch)))
	}
	return nil
}

// compareKeys reads keys from both stores and compares them one by one. Those that
// legacy lacks are suspects if extras is set. found is how many legacy has.
func (c *rowComparer) compareKeys(ctx context.Context, keys []record.Key, extras bool, t *Tally) (found int64, err error) {
	for from := 0; from < len(keys); from += c.batch {
		batch := keys[from:min(from+c.batch, len(keys))]
		if err := c.pace.wait(ctx, len(batch)); err != nil {
			return found, err
		}
		rows, err := c.stores.rows(ctx, batch)
		if err != nil {
			return found, err
		}
		var there []store.Row
		for _, row := range rows {
			if row.Found {
				there = append(there, row)
			} else if extras {
				t.Suspects = append(t.Suspects, row.Key)
			}
		}
		if err := c.compareBatch(ctx, there, t); err != nil {
			return found, err
		}
		found += int64(len(there))
	}
	return found, nil
}

// compareBatch compares rows with their entries. It does not count them.
func (c *rowComparer) compareBatch(ctx context.Context, rows []store.Row, t *Tally) error {
	keys := make([]record.Key, len(rows))
	for i := range rows {
		keys[i] = rows[i].Key
	}
	now, entries, err := c.stores.entries(ctx, keys)
	if err != nil {
		return err
	}
	for i := range rows {
		if !c.rules.agree(rows[i], entries[i], now) {
			t.Suspects = append(t.Suspects, keys[i])
		}
	}
	return c.ahead.find(ctx, rows, entries, t)
}
