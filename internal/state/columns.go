package state

import (
	"context"
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/statedb"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// Columns is the schema that was applied; nil if none was that names the columns.
func (a Applied) Columns() (*record.Schema, error) { return columnsOf(a.Schema) }

// FormerColumns is the schema that instances may still move; nil: none.
func (a Applied) FormerColumns() (*record.Schema, error) { return columnsOf(a.Former) }

func columnsOf(text []byte) (*record.Schema, error) {
	if len(text) == 0 {
		return nil, nil
	}
	s := &record.Schema{}
	if err := json.Unmarshal(text, s); err != nil || len(s.Fields) == 0 {
		return nil, err
	}
	return s, nil
}

// IsUnknown reports whether an error says that there is no such migration.
func IsUnknown(err error) bool { return errors.Is(err, statedb.ErrUnknownMigration) }

// admitMoves refuses an apply that would change what instances move while they write the target.
func admitMoves(before, after string, at phases.Phase) error {
	if before == "" || before == after || at == phases.Legacy {
		return nil
	}
	return hint.Errorf(hint.Hint{Do: hint.Retry}, "what is moved can't be changed at %s: another command has moved the migration, or changed it", at)
}

// ChangeFields records that other columns are moved from now on, and begins an epoch for it on the
// present route, which must be at. An instance acknowledges it once it moves these columns. Until a
// backfill of them has begun, those that move the columns of before may still join.
func (s *Store) ChangeFields(ctx context.Context, a Applied, at phases.Route, reason string) (st phases.Status, done Stored, err error) {
	err = s.exclusive(ctx, a.Migration, func(tx pgx.Tx) error {
		e, err := readSnapshot(ctx, tx, a.Migration)
		switch {
		case err != nil:
			return err
		case e.Status.Route != at:
			return moved(ctx, tx, e.Status, at)
		case e.Status.StateLoss != nil:
			return hint.With(errors.New(e.Status.StateLoss.Describe(at)), phases.StateLossHint())
		case len(e.Fleet.Other) > 0:
			// One change at a time: of two, no instance could say that it moves those of before the first.
			return hint.Errorf(hint.Hint{Do: hint.FleetList}, "%s: restart it first; it moves other columns than those that are applied", strings.Join(e.Fleet.Other, ", "))
		}
		before, err := readApplied(ctx, tx, a.Migration)
		if err != nil {
			return err
		}
		lease, renew, err := leaseTimes(a.Config)
		if err != nil {
			return err
		}
		done = Stored{Columns: true, Epoch: true, Void: true}
		if done.Changes, err = ChangesOf(before.Config, a.Config); err != nil {
			return err
		}
		if err := checkChanges(at, before, a, done.Changes); err != nil {
			return err
		}
		if err := keep(ctx, tx, a, lease, renew, moveColumns, reason, map[string]any{
			"before":  map[string]any{"config_hash": before.ConfigHash, "moves": before.Moves},
			"after":   map[string]any{"config_hash": a.ConfigHash, "moves": a.Moves},
			"changes": done.Changes, "columns": done.Columns, "evidence_void": done.Void,
		}); err != nil {
			return err
		}
		st, err = statedb.ReadStatus(ctx, tx, a.Migration)
		return err
	})
	if err == nil {
		s.markSettled(ctx, a.Migration)
	}
	return st, done, err
}

// SeeColumns notes how a store's columns differ from those that are applied under a config hash; it
// notes nothing if another is by now. It returns what has changed since the last look, and whether
// the migration is unclean by that.
func (s *Store) SeeColumns(ctx context.Context, migration, configHash, side string, now []store.ColumnChange) (news string, unclean bool, err error) {
	if now == nil {
		now = []store.ColumnChange{}
	}
	doc, err := json.Marshal(now)
	if err != nil {
		return "", false, err
	}
	// Most looks find what the last one found, and need no lock of the migration.
	var same bool
	err = s.pool.QueryRow(ctx, `SELECT migrator.see_columns_again($1, $2, $3, $4::jsonb)`, migration, configHash, side, string(doc)).Scan(&same)
	if err != nil || same {
		return "", false, statedb.Explain(err)
	}
	err = s.exclusive(ctx, migration, func(tx pgx.Tx) error {
		st, err := statedb.ReadStatus(ctx, tx, migration)
		if err != nil || st.ConfigHash != configHash {
			return err
		}
		var text *string
		if err := tx.QueryRow(ctx, `SELECT migrator.see_columns($1, $2, $3::jsonb)::text`, migration, side, string(doc)).Scan(&text); err != nil {
			return err
		}
		var before []store.ColumnChange
		if text != nil {
			if err := json.Unmarshal([]byte(*text), &before); err != nil {
				return err
			}
		}
		if reflect.DeepEqual(before, now) || len(before)+len(now) == 0 {
			return nil
		}
		news = side + ": " + details(now)
		cause := phases.CauseTable
		// [columns-watched]: also where a column is as it was again: its values went through another
		// type, or are gone. In legacy nothing has moved yet; complete is over.
		if !reflect.DeepEqual(broken(before), broken(now)) && st.Route.Phase != phases.Legacy && st.Route.Phase != phases.Complete {
			cause, unclean = phases.CauseLoss, true
			if _, err := tx.Exec(ctx, `SELECT migrator.mark_unclean($1, left($2, 500))`, migration, statedb.CleanText("the columns of "+news)); err != nil {
				return err
			}
		}
		return note(ctx, tx, migration, cause, "the columns of "+news, struct{}{})
	})
	if err != nil {
		return "", false, err
	}
	return news, unclean, nil
}

func broken(all []store.ColumnChange) []store.ColumnChange {
	return slices.DeleteFunc(slices.Clone(all), func(c store.ColumnChange) bool { return !c.Broken })
}

func details(all []store.ColumnChange) string {
	if len(all) == 0 {
		return "they are as they were applied"
	}
	var texts []string
	for _, c := range all {
		texts = append(texts, c.Detail)
	}
	return strings.Join(texts, "; ")
}
