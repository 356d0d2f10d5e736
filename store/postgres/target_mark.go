package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/store"
)

var _ store.Marker = (*Target)(nil)

// marksTable has a row for each migration that writes a table of this database.
const marksTable = "migrator_target.\"migrator marks\"" // no migration's name has a blank

const marksSQL = `
	CREATE TABLE IF NOT EXISTS ` + marksTable + ` (
		migration text PRIMARY KEY,
		relation text NOT NULL,
		owner text NOT NULL,
		incarnation text NOT NULL,
		beat int8 NOT NULL
	);
	COMMENT ON TABLE ` + marksTable + ` IS 'migrator: who writes which table, and the last beat; a database without it has lost data';
	GRANT SELECT ON ` + marksTable + ` TO PUBLIC;
`

// Claim implements store.Marker.
func (t *Target) Claim(ctx context.Context, m store.Mark, takeOver bool) error {
	err := inTx(ctx, t.pool, pgx.ReadWrite, func(tx pgx.Tx) error {
		// [one-owner]: one claim at a time.
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock(hashtextextended('migrator:install', 0))"); err != nil {
			return err
		}
		others, err := t.others(ctx, tx, m.Owner)
		switch {
		case err != nil:
			return err
		case len(others) > 0 && !takeOver:
			return hint.Errorf(hint.Hint{Do: hint.TakeOver, Text: "if that migration is over"}, "%w: %s writes %s", store.ErrOwned, others[0], t.table())
		}
		if _, err := tx.Exec(ctx, `DELETE FROM `+marksTable+` WHERE migration = $1 OR to_regclass(relation) = $2::text::regclass`,
			t.migration, t.shape.name.Sanitize()); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `INSERT INTO `+marksTable+` (migration, relation, owner, incarnation, beat) VALUES ($1, $2, $3, $4, $5)`,
			t.migration, t.shape.name.Sanitize(), m.Owner, m.Incarnation, m.Beat)
		return err
	})
	if err != nil {
		return fmt.Errorf("claim target table %s: %w", t.table(), asUnprepared(err))
	}
	return nil
}

// Owners implements store.Marker.
func (t *Target) Owners(ctx context.Context, owner string) ([]string, error) {
	others, err := t.others(ctx, t.pool, owner)
	switch {
	case hasState(err, stateUndefinedTable, stateNoSchema):
		return nil, nil // nothing was ever prepared here
	case err != nil:
		return nil, fmt.Errorf("read the owners of target table %s: %w", t.table(), err)
	}
	return others, nil
}

func (t *Target) others(ctx context.Context, db queryer, owner string) ([]string, error) {
	rows, err := db.Query(ctx, `SELECT owner FROM `+marksTable+`
		WHERE owner <> $1 AND (migration = $2 OR to_regclass(relation) = $3::text::regclass) ORDER BY owner`,
		owner, t.migration, t.shape.name.Sanitize())
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// CheckMark implements store.Marker.
func (t *Target) CheckMark(ctx context.Context, m store.Mark) error {
	_, err := t.mark(ctx, m)
	return err
}

// Beat implements store.Marker.
func (t *Target) Beat(ctx context.Context, m store.Mark, next int64) error {
	tag, err := t.pool.Exec(ctx, `UPDATE `+marksTable+` SET beat = $5
		WHERE migration = $1 AND owner = $2 AND incarnation = $3 AND beat >= $4 AND beat < $5`,
		t.migration, m.Owner, m.Incarnation, m.Beat, next)
	if err == nil && tag.RowsAffected() == 1 {
		return nil
	}
	if err != nil && !hasState(err, stateUndefinedTable, stateNoSchema) {
		return fmt.Errorf("write the target's mark: %w", err)
	}
	has, err := t.mark(ctx, m)
	if err == nil {
		err = &store.BeatAheadError{Beat: has}
	}
	return err
}

// mark reads the mark's number. [mark-lost]: ErrMarkLost only where the database has answered.
func (t *Target) mark(ctx context.Context, m store.Mark) (beat int64, err error) {
	var owner, incarnation string
	err = t.pool.QueryRow(ctx, `SELECT owner, incarnation, beat FROM `+marksTable+` WHERE migration = $1`, t.migration).Scan(&owner, &incarnation, &beat)
	what := ""
	switch {
	case errors.Is(err, pgx.ErrNoRows), hasState(err, stateUndefinedTable, stateNoSchema):
		what = "has no mark"
	case err != nil:
		return 0, fmt.Errorf("read the target's mark: %w", err)
	case owner != m.Owner:
		return 0, t.markLost(ctx, m, fmt.Errorf("%w (%w)", store.ErrMarkLost, store.ErrOwned), fmt.Sprintf("has the mark of %q", owner))
	case incarnation != m.Incarnation:
		what = "has the mark of another claim"
	case beat < m.Beat:
		what = fmt.Sprintf("is at beat %d", beat)
	default:
		return beat, nil
	}
	return 0, t.markLost(ctx, m, store.ErrMarkLost, what)
}

func (t *Target) markLost(ctx context.Context, m store.Mark, cause error, what string) error {
	server := "the database"
	var name, address, started string
	if t.pool.QueryRow(ctx, `SELECT current_database(), coalesce(host(inet_server_addr()) || ':' || inet_server_port(), 'a socket'),
		to_char(pg_postmaster_start_time() AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS')`).Scan(&name, &address, &started) == nil {
		server = fmt.Sprintf("the database %s at %s (up since %s UTC)", name, address, started)
	}
	return hint.Errorf(store.MarkHint(t.migration, cause.Error()),
		"%w: %s %s; expected that of %s with beat %d or later", cause, server, what, m.Owner, m.Beat)
}
