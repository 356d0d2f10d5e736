package state

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/internal/statedb"
	"github.com/stranglerfig/migrator/phases"
)

// LoseCapture records that changes of legacy are missing to change capture, which begins again: the migration is
// unclean, and backfills from before do not count. In retain nothing is missing: legacy takes nothing. It returns
// whether that is news.
func (s *Store) LoseCapture(ctx context.Context, migration, why string) (news bool, err error) {
	err = s.exclusive(ctx, migration, func(tx pgx.Tx) error {
		why := statedb.CleanText(why)
		if err := tx.QueryRow(ctx, `SELECT migrator.lose_capture($1, $2)`, migration, why).Scan(&news); err != nil || !news {
			return err
		}
		return note(ctx, tx, migration, phases.CauseLoss, why, struct{}{})
	})
	return news && err == nil, err
}

// readCapture reads what change capture does; nil: it has never run.
func readCapture(ctx context.Context, q statedb.Querier, migration string) (*phases.Capture, error) {
	var c phases.Capture
	var status, lost string
	var reported, lostAt *time.Time
	// [capture-passed]: what is saved counts, not what was reported.
	var slot, fence, barrier string
	var era uint32
	var sweeps int
	err := q.QueryRow(ctx, `SELECT coalesce(progress ->> 'slot', ''), coalesce(progress ->> 'fence', ''), coalesce(progress ->> 'barrier', ''),
			coalesce((progress ->> 'era')::bigint, 0), coalesce(jsonb_array_length(progress -> 'sweeps'), 0),
			status::text, reported_at, lost, lost_at FROM migrator.captures WHERE migration = $1`, migration).
		Scan(&slot, &fence, &barrier, &era, &sweeps, &status, &reported, &lost, &lostAt)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal([]byte(status), &c); err != nil {
		return nil, fmt.Errorf("the status of change capture can't be read: %w", err)
	}
	c.Slot, c.Fence, c.Barrier, c.Era, c.Sweeps = slot, fence, barrier, era, sweeps
	c.Lost, c.Reported, c.LostAt = lost, statedb.OrZero(reported), statedb.OrZero(lostAt)
	return &c, nil
}
