package capture

import (
	"context"
	"fmt"

	"github.com/jackc/pglogrepl"
)

// Mark writes a marker into legacy's log, and returns whether progress is past all that legacy had committed when it
// was called.
func (c *Capture) Mark(ctx context.Context) (passed func(Progress) bool, err error) {
	at, err := c.End(ctx)
	if err != nil {
		return nil, err
	}
	// On a quiet table nothing else would bring progress there.
	if err := c.Legacy.Beat(ctx); err != nil {
		return nil, err
	}
	return func(p Progress) bool { return p.Resume > at }, nil
}

// End is where legacy's log ends: what legacy has committed is before it.
func (c *Capture) End(ctx context.Context) (pglogrepl.LSN, error) {
	var text string
	if err := c.Legacy.Pool().QueryRow(ctx, "SELECT pg_current_wal_insert_lsn()::text").Scan(&text); err != nil {
		return 0, fmt.Errorf("read where legacy's log ends: %w", err)
	}
	return pglogrepl.ParseLSN(text)
}
