package state

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/internal/statedb"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/store"
)

// Mark returns the mark that the migration's target must have, with the last confirmed beat; a
// zero one if the target was never claimed. lost is why the target is known to lack it; "": it is
// not.
func (s *Store) Mark(ctx context.Context, migration string) (m store.Mark, lost string, err error) {
	err = s.pool.QueryRow(ctx, `SELECT owner, incarnation, confirmed, lost FROM migrator.mark_of($1)`, migration).
		Scan(&m.Owner, &m.Incarnation, &m.Beat, &lost)
	if errors.Is(err, pgx.ErrNoRows) {
		return store.Mark{}, "", nil
	}
	return m, lost, statedb.Explain(err)
}

// Owner is the name under which a migration of this database owns its target's keys.
func (s *Store) Owner(ctx context.Context, migration string) (owner string, err error) {
	err = s.pool.QueryRow(ctx, `SELECT $1::text || '@' || id FROM migrator.identity`, migration).Scan(&owner)
	return owner, statedb.Explain(err)
}

// PlaceMark begins a claim of the target's keys, before the target has the mark. why is of a claim
// that replaces one: the target may have lost data, so the migration is marked unclean.
// was is the incarnation of the mark that is replaced, "" for none: another claim since then is
// left alone.
func (s *Store) PlaceMark(ctx context.Context, migration, was, incarnation, why string) (m store.Mark, err error) {
	err = s.exclusive(ctx, migration, func(tx pgx.Tx) error {
		var present string
		err := tx.QueryRow(ctx, `SELECT coalesce((SELECT incarnation FROM migrator.mark_of($1)), '')`, migration).Scan(&present)
		if err != nil || present != was {
			return err
		}
		if _, err := tx.Exec(ctx, `SELECT migrator.place_mark($1, $2)`, migration, incarnation); err != nil || why == "" {
			return err
		}
		if _, err := tx.Exec(ctx, `SELECT migrator.mark_unclean($1, $2)`, migration, why); err != nil {
			return err
		}
		return note(ctx, tx, migration, phases.CauseLoss, why, struct{}{})
	})
	if err == nil {
		m, _, err = s.Mark(ctx, migration)
	}
	return m, err
}

// NextBeat gives out the next beat of the mark, and notes m.Beat as one that the whole target had.
// It returns the mark with the last confirmed beat. 0: another claim has replaced the mark.
func (s *Store) NextBeat(ctx context.Context, migration string, m store.Mark) (_ store.Mark, next int64, err error) {
	err = s.pool.QueryRow(ctx, `SELECT next, confirmed FROM migrator.next_beat($1, $2, $3)`, migration, m.Incarnation, m.Beat).Scan(&next, &m.Beat)
	if errors.Is(err, pgx.ErrNoRows) {
		return m, 0, nil
	}
	return m, next, statedb.Explain(err)
}

// RaiseBeat makes the next beat greater than above, which the target has. It reports whether this
// database had given out less, or, if twice is set, the same number twice: then it has lost
// transactions, and the migration is marked so.
func (s *Store) RaiseBeat(ctx context.Context, migration string, m store.Mark, above int64, twice bool) (wentBack bool, err error) {
	err = s.exclusive(ctx, migration, func(tx pgx.Tx) error {
		err := tx.QueryRow(ctx, `SELECT migrator.raise_beat($1, $2, $3)`, migration, m.Incarnation, above).Scan(&wentBack)
		if wentBack = wentBack || twice; err != nil || !wentBack {
			return err
		}
		const why = "the target has a beat that this state database has not given out: the database has lost transactions, journalled keys perhaps among them"
		// [state-server]: as on another server: the journal may lack keys.
		if _, err := tx.Exec(ctx, `SELECT migrator.suspect_state($1, $2)`, migration, why); err != nil {
			return err
		}
		return note(ctx, tx, migration, phases.CauseLoss, why, struct{}{})
	})
	return wentBack, err
}

// LoseTarget notes that the target lacks the mark, and marks the migration unclean. It reports
// whether that was not known yet.
func (s *Store) LoseTarget(ctx context.Context, migration string, m store.Mark, why string) (news bool, err error) {
	why = statedb.CleanText(why)
	err = s.exclusive(ctx, migration, func(tx pgx.Tx) error {
		err := tx.QueryRow(ctx, `SELECT migrator.lose_target($1, $2, $3)`, migration, m.Incarnation, why).Scan(&news)
		if err != nil || !news {
			return err
		}
		return note(ctx, tx, migration, phases.CauseLoss, why, struct{}{})
	})
	return news, err
}

// FindTarget notes that the target has the mark, whole, after all. The migration stays unclean.
func (s *Store) FindTarget(ctx context.Context, migration string, m store.Mark) (news bool, err error) {
	err = s.exclusive(ctx, migration, func(tx pgx.Tx) error {
		err := tx.QueryRow(ctx, `SELECT migrator.find_target($1, $2)`, migration, m.Incarnation).Scan(&news)
		if err != nil || !news {
			return err
		}
		return note(ctx, tx, migration, phases.CauseLoss, "the target has the migration's mark again", struct{}{})
	})
	return news, err
}
