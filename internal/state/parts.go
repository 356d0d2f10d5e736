package state

import (
	"context"
	"encoding/json"
	"errors"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/internal/statedb"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/store"
)

// Parts returns the parts of legacy's table that were noted last; nil if none were.
func (s *Store) Parts(ctx context.Context, migration string) ([]store.Part, error) {
	parts, err := readParts(ctx, s.pool, migration)
	return parts, statedb.Explain(err)
}

func readParts(ctx context.Context, q statedb.Querier, migration string) (parts []store.Part, err error) {
	var text string
	err = q.QueryRow(ctx, `SELECT parts::text FROM migrator.parts WHERE migration = $1`, migration).Scan(&text)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err == nil {
		err = json.Unmarshal([]byte(text), &parts)
	}
	return parts, err
}

// AcceptParts notes the parts of legacy's table as those that the migration moves.
func (s *Store) AcceptParts(ctx context.Context, migration string, parts []store.Part) error {
	return s.exclusive(ctx, migration, func(tx pgx.Tx) error { return noteParts(ctx, tx, migration, parts, nil) })
}

// NoteParts notes that the parts of legacy's table have changed from before to now. The history
// gets an entry. If records have gone or come by that, the migration is marked unclean in the same
// transaction. It returns false, and notes nothing, if before is not what was noted last.
func (s *Store) NoteParts(ctx context.Context, migration string, before, now []store.Part, changes string, lost bool) (noted bool, err error) {
	err = s.exclusive(ctx, migration, func(tx pgx.Tx) error {
		last, err := readParts(ctx, tx, migration)
		if err != nil || !slices.Equal(last, before) {
			return err
		}
		noted = true
		changes = statedb.CleanText(changes)
		if err := noteParts(ctx, tx, migration, now, &changes); err != nil {
			return err
		}
		cause := phases.CauseTable
		if lost {
			// [parts-watched]: what was compared before may have been right for another table.
			cause = phases.CauseLoss
			if _, err := tx.Exec(ctx, `SELECT migrator.mark_unclean($1, $2)`, migration, changes); err != nil {
				return err
			}
		}
		return note(ctx, tx, migration, cause, changes, struct{}{})
	})
	return noted && err == nil, err
}

func noteParts(ctx context.Context, tx pgx.Tx, migration string, parts []store.Part, changes *string) error {
	if parts == nil {
		parts = []store.Part{}
	}
	text, err := json.Marshal(parts)
	if err == nil {
		_, err = tx.Exec(ctx, `SELECT migrator.note_parts($1, $2::jsonb, $3)`, migration, string(text), changes)
	}
	return err
}
