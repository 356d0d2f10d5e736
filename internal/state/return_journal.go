package state

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/statedb"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// ReturnKeys returns up to limit keys of the return journal greater than after, in
// the order of their bytes; "" starts, and is itself returned first if it is there.
func (s *Store) ReturnKeys(ctx context.Context, migration string, after record.Key, limit int) ([]record.Key, error) {
	above, args := "", []any{migration, limit}
	if after != "" {
		above, args = " AND j.key > $3", append(args, []byte(after))
	}
	keys, err := statedb.Page(ctx, s.pool, func(row pgx.CollectableRow) (record.Key, error) {
		var raw []byte
		err := row.Scan(&raw)
		return record.Key(raw), err
	}, `SELECT j.key FROM migrator.return_journal j LEFT JOIN migrator.returns r ON r.migration = j.migration
		WHERE j.migration = $1 AND j.changes > coalesce(r.floor, 0)`+above+` ORDER BY j.key LIMIT $2`, args...)
	return keys, statedb.Explain(err)
}

// ReturnRest returns up to limit keys of the return journal of whose newest change legacy has no
// copy, by the changes' numbers, up to most.
func (s *Store) ReturnRest(ctx context.Context, migration string, most int64, limit int) ([]store.ReturnKey, error) {
	keys, err := statedb.Page(ctx, s.pool, func(row pgx.CollectableRow) (k store.ReturnKey, err error) {
		var raw []byte
		err = row.Scan(&raw, &k.Change)
		k.Key = record.Key(raw)
		return k, err
	}, `SELECT key, changes FROM migrator.return_journal
		WHERE migration = $1 AND changes <= $2 AND changes > (SELECT coalesce(max(greatest(floor, copied)), 0) FROM migrator.returns WHERE migration = $1)
		ORDER BY changes LIMIT $3`, migration, most, limit)
	return keys, statedb.Explain(err)
}

// NewestChange returns a number that no change of the return journal is above that has begun.
func (s *Store) NewestChange(ctx context.Context, migration string) (n int64, err error) {
	err = s.pool.QueryRow(ctx, `SELECT migrator.newest_change($1)`, migration).Scan(&n)
	return n, statedb.Explain(err)
}

// BeginReturn records the incarnation of legacy that copies go to. Copies of another one are void.
func (s *Store) BeginReturn(ctx context.Context, migration string, at phases.Route, legacy string) error {
	_, err := s.pool.Exec(ctx, `SELECT migrator.begin_return($1, $2, $3)`, migration, at.Epoch, legacy)
	return statedb.Explain(err)
}

// MarkCopied marks all changes up to a number as copied to legacy, except those of keys that were
// not. The migration must be at the route.
func (s *Store) MarkCopied(ctx context.Context, migration string, at phases.Route, legacy string, upTo int64, notCopied []record.Key) error {
	// [return-marks]: under the epoch that the copy was begun in.
	_, err := s.pool.Exec(ctx, `SELECT migrator.mark_copied($1, $2, $3, $4, $5)`, migration, at.Epoch, legacy, upTo, statedb.KeyBytes(notCopied))
	return statedb.Explain(err)
}

// FinalizeReturn makes the return that at is one that can't be given up.
func (s *Store) FinalizeReturn(ctx context.Context, migration string, at phases.Route) error {
	_, err := s.pool.Exec(ctx, `SELECT migrator.finalize_return($1, $2)`, migration, at.Epoch)
	return statedb.Explain(err)
}

// EmptyReturn empties the return journal, of which every key has been copied.
func (s *Store) EmptyReturn(ctx context.Context, migration string, at phases.Route) error {
	_, err := s.pool.Exec(ctx, `SELECT migrator.empty_return($1, $2)`, migration, at.Epoch)
	return statedb.Explain(err)
}

// PruneReturn deletes what EmptyReturn has left, in short transactions.
func (s *Store) PruneReturn(ctx context.Context, migration string) error {
	const most = 5000
	for gone := int64(most); gone == most; {
		if err := s.pool.QueryRow(ctx, `SELECT migrator.prune_return($1, $2)`, migration, most).Scan(&gone); err != nil {
			return statedb.Explain(err)
		}
	}
	return nil
}

// NoteReturnRate records how many keys a second were copied.
func (s *Store) NoteReturnRate(ctx context.Context, migration string, rate float64) error {
	_, err := s.pool.Exec(ctx, `SELECT migrator.note_return_rate($1, $2)`, migration, rate)
	return statedb.Explain(err)
}

// ClearReturn deletes keys that are not copied: lost are those whose records the target has lost,
// aside those that are set aside. It is refused in retain, where another write of the same key may
// have been journalled since.
//
// As many must have been accepted as are lost, and the migration is marked unclean in the same
// transaction; the return must be one that sets aside.
func (s *Store) ClearReturn(ctx context.Context, migration string, lost, aside []record.Key) error {
	return s.exclusive(ctx, migration, func(tx pgx.Tx) error {
		st, err := statedb.ReadStatus(ctx, tx, migration)
		if err != nil {
			return err
		}
		// [return-clear]: in retain the key may have been written again since it was replayed.
		if st.Route.Phase == phases.Retain {
			return hint.Errorf(hint.Hint{Do: hint.RollbackToGrace}, "the return journal can't be cleared in retain: writes may be journalled again at any time")
		}
		if len(lost) > 0 {
			// [return-lost]: refused if more are lost than were accepted.
			if _, err := tx.Exec(ctx, `SELECT migrator.leave_missing($1, $2)`, migration, len(lost)); err != nil {
				return err
			}
		}
		if len(aside) > 0 {
			// [return-aside]: refused unless that was requested.
			if _, err := tx.Exec(ctx, `SELECT migrator.leave_aside($1, $2)`, migration, len(aside)); err != nil {
				return err
			}
			if err := noteReturn(ctx, tx, migration, fmt.Sprintf("%d records that legacy refuses were set aside", len(aside)), map[string]int64{"set_aside": int64(len(aside))}); err != nil {
				return err
			}
		}
		_, err = tx.Exec(ctx, `SELECT migrator.leave_return($1, $2)`, migration, statedb.KeyBytes(slices.Concat(lost, aside)))
		return err
	})
}

// AcceptMissing sets how many records the return that at is may leave as legacy has them,
// because the target has lost them.
func (s *Store) AcceptMissing(ctx context.Context, migration string, at phases.Route, records int64) error {
	return s.duringReturn(ctx, migration, at, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `SELECT migrator.accept_missing($1, $2)`, migration, records)
		if err != nil {
			return err
		}
		return noteReturn(ctx, tx, migration, fmt.Sprintf("%d lost records accepted", records), map[string]int64{"accept_missing": records})
	})
}

// AllowSetAside makes the return that at is set aside what legacy refuses.
func (s *Store) AllowSetAside(ctx context.Context, migration string, at phases.Route) error {
	return s.duringReturn(ctx, migration, at, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `SELECT migrator.allow_set_aside($1)`, migration)
		if err != nil {
			return err
		}
		return noteReturn(ctx, tx, migration, "records that legacy refuses may be set aside", map[string]int64{})
	})
}

// noteReturn records what the return in progress was allowed, or what it did by that.
func noteReturn(ctx context.Context, tx pgx.Tx, migration, why string, evidence map[string]int64) error {
	doc, err := json.Marshal(evidence)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `SELECT migrator.note_return($1, $2, $3::jsonb)`, migration, why, string(doc))
	return err
}

func (s *Store) duringReturn(ctx context.Context, migration string, at phases.Route, f func(tx pgx.Tx) error) error {
	return s.exclusive(ctx, migration, func(tx pgx.Tx) error {
		st, err := statedb.ReadStatus(ctx, tx, migration)
		switch {
		case err != nil:
			return err
		case st.Route != at:
			return moved(ctx, tx, st, at)
		}
		return f(tx)
	})
}
