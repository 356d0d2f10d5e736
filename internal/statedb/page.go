package statedb

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// Page reads a page of a table in the order of an index. A journal grows and shrinks faster than
// its statistics: the planner expects few rows, and would read and sort all of them for each page.
func Page[T any](ctx context.Context, db interface {
	SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults
}, scan pgx.RowToFunc[T], sql string, args ...any,
) (list []T, err error) {
	batch := &pgx.Batch{}
	// For this transaction alone: a batch is one.
	batch.Queue(`SELECT set_config('enable_sort', 'off', true), set_config('enable_bitmapscan', 'off', true)`)
	batch.Queue(sql, args...).Query(func(rows pgx.Rows) error {
		list, err = pgx.CollectRows(rows, scan)
		return err
	})
	err = db.SendBatch(ctx, batch).Close()
	return list, err
}
