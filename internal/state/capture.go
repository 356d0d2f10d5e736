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

// LoseCapture is MarkUnclean because changes of legacy are missing to change capture. Capture stands until it is
// forgotten.
func (s *Store) LoseCapture(ctx context.Context, migration, why string) error {
	return s.unclean(ctx, migration, why, `SELECT migrator.lose_capture($1, $2)`)
}

// readCapture reads what change capture does; nil: it has never run.
func readCapture(ctx context.Context, q statedb.Querier, migration string) (*phases.Capture, error) {
	var c phases.Capture
	var status, slot, lost string
	var reported, lostAt *time.Time
	err := q.QueryRow(ctx, `SELECT coalesce(progress ->> 'slot', ''), status::text, reported_at, lost, lost_at FROM migrator.captures WHERE migration = $1`, migration).
		Scan(&slot, &status, &reported, &lost, &lostAt)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal([]byte(status), &c); err != nil {
		return nil, fmt.Errorf("the status of change capture can't be read: %w", err)
	}
	c.Slot, c.Lost, c.Reported, c.LostAt = slot, lost, statedb.OrZero(reported), statedb.OrZero(lostAt)
	return &c, nil
}
