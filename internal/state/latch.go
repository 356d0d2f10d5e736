package state

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/internal/statedb"
	"github.com/stranglerfig/migrator/phases"
)

// latched reads the latch from the history: one entry sets it and another clears it; it
// is stored nowhere else.
func latched(ctx context.Context, q statedb.Querier, migration string) (*phases.Latch, error) {
	var cause phases.Cause
	var epoch int64
	var at time.Time
	var reason, fired string
	err := q.QueryRow(ctx, `SELECT cause, to_epoch, at, reason, coalesce(evidence ->> 'fired', '{}') FROM migrator.history
		WHERE migration = $1 AND cause IN ('trigger', 'acknowledge', 'forgotten') ORDER BY seq DESC LIMIT 1`, migration).
		Scan(&cause, &epoch, &at, &reason, &fired)
	switch {
	case errors.Is(err, pgx.ErrNoRows), err == nil && cause != phases.CauseTrigger:
		return nil, nil
	case err != nil:
		return nil, err
	}
	l := phases.Latch{}
	if err := json.Unmarshal([]byte(fired), &l); err != nil {
		return nil, fmt.Errorf("the history's entry of the automatic rollback at %s: %w", at.UTC().Format(time.RFC3339), err)
	}
	l.Epoch, l.At, l.Reason = epoch, at, reason
	return &l, nil
}

// latchable refuses an automatic rollback that does not name what fired, and a latch
// on any other move.
func latchable(ctx context.Context, tx pgx.Tx, migration string, move phases.Move) error {
	if move.Cause != phases.CauseTrigger {
		if move.Latch != nil {
			return fmt.Errorf("a move by %s sets no latch", move.Cause)
		}
		return nil
	}
	if move.Latch == nil || move.Latch.Trigger == "" || move.Latch.Evaluation == 0 {
		return errors.New("an automatic rollback must name its trigger and the evaluation that fired")
	}
	// The evaluation must be stored, firing and not a dry run: a rollback must rest on an
	// evaluation that can be shown later.
	var fired bool
	err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM migrator.evaluations
		WHERE id = $1 AND migration = $2 AND kind = 'trigger' AND name = $3 AND verdict = 'firing' AND NOT dry_run)`,
		move.Latch.Evaluation, migration, move.Latch.Trigger).Scan(&fired)
	if err == nil && !fired {
		err = fmt.Errorf("the trigger %q did not fire in evaluation %d", move.Latch.Trigger, move.Latch.Evaluation)
	}
	return err
}

// Acknowledge clears the latch of an automatic rollback: an operator, the database's
// session_user, has seen what fired. It is no error if there is no latch.
func (s *Store) Acknowledge(ctx context.Context, migration, reason string) error {
	if strings.TrimSpace(reason) == "" {
		return errors.New("an acknowledgement needs a reason: what was found and done")
	}
	return s.exclusive(ctx, migration, func(tx pgx.Tx) error {
		// Read under the lock: a concurrent automatic rollback is before this, and acknowledged, or
		// after it, and latches again.
		l, err := latched(ctx, tx, migration)
		if err != nil || l == nil {
			return err
		}
		doc, err := json.Marshal(l)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `SELECT migrator.acknowledge($1, $2, $3::jsonb)`, migration, statedb.CleanText(reason), string(doc))
		return err
	})
}
