package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/internal/failpoint"
	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// legacyForgetter goes by the migration's name alone: the table may be gone.
type legacyForgetter struct {
	l *Legacy
	o store.ForgetOptions
}

// OpenForget implements migration.ForgettingPart.
func (c *LegacyConfig) OpenForget(ctx context.Context, m *migration.Config, _ *record.Schema, o store.ForgetOptions) (store.Forgetter, error) {
	pool, err := connect(ctx, "legacy", m.Legacy.URL)
	if err != nil {
		return nil, err
	}
	return &legacyForgetter{&Legacy{pool: pool, name: m.Name}, o}, nil
}

func (f *legacyForgetter) Close() error { f.l.Close(); return nil }

// refusal is why the migration can't be removed; "": nothing speaks against it.
func (f *legacyForgetter) refusal(attempt *string, aside int64) (fence, kept error) {
	// [fence-whole]: only LiftFence removes the fence of a migration that is not complete.
	if attempt != nil && !f.o.Fence {
		h := hint.Hint{Do: hint.Rollback}
		if f.o.AnyOwner {
			h = hint.Hint{Do: hint.LiftFence, Of: []string{*attempt}, Text: "which makes legacy's records authoritative again"}
		}
		fence = hint.Errorf(h, "the fence of attempt %s is raised: legacy refuses writes until it is lifted", *attempt)
	}
	if aside > 0 && !f.o.SetAside {
		kept = hint.Errorf(hint.Hint{Text: "bring them in and delete them there, or forget them too"},
			"%d records that a rollback set aside are in the table migrator_legacy.set_aside", aside)
	}
	return fence, kept
}

// traces reads what there is; there is false if the migration is not in the schema.
func (f *legacyForgetter) traces(ctx context.Context, db queryer) (list []store.Trace, there bool, err error) {
	rows, err := db.Query(ctx, `SELECT m.attempt, (SELECT count(*) FROM migrator_legacy.set_aside WHERE name = $1), (SELECT count(*) FROM migrator_legacy.lifted WHERE name = $1),
			(SELECT count(*) FROM pg_trigger WHERE starts_with(tgname::text, $2)),
			(SELECT count(*) FROM pg_replication_slots WHERE slot_name = $4 AND database = current_database()) + (SELECT count(*) FROM pg_publication WHERE pubname = $4), NOT EXISTS (SELECT FROM migrator_legacy.migration WHERE name <> $1)
		FROM (SELECT 1) one LEFT JOIN migrator_legacy.migration m ON m.name = $1 WHERE m.name IS NOT NULL OR to_regclass($3) IS NOT NULL
			OR EXISTS (SELECT FROM migrator_legacy.set_aside WHERE name = $1)`, f.l.name, fenceOwner(f.l.name), f.l.era(), f.l.CaptureName())
	if err == nil {
		var attempt *string
		var aside, lifted, triggers, captured int64
		var last bool
		_, err = pgx.ForEachRow(rows, []any{&attempt, &aside, &lifted, &triggers, &captured, &last}, func() error {
			there = true
			fence, kept := f.refusal(attempt, aside)
			text := func(err error) string {
				if err == nil {
					return ""
				}
				return err.Error()
			}
			list = []store.Trace{
				{What: "triggers of the fence on the table, which then takes writes again", Count: triggers, Refused: text(fence)},
				{What: "records that a rollback set aside (migrator_legacy.set_aside)", Count: aside, Refused: text(kept)},
				{What: "replication slot and publication of change capture", Count: captured},
				{What: "attempts of the fence that are over (migrator_legacy.lifted)", Count: lifted},
				{What: "the migration's row and mark (migrator_legacy.migration, alive), and the sequence of its era", Count: 1},
			}
			if last {
				list = append(list, store.Trace{What: "the schema migrator_legacy, of which it is the last migration", Count: 1})
			}
			return nil
		})
	}
	if hasState(err, stateUndefinedTable, stateNoSchema) {
		return nil, false, nil
	}
	return list, there, err
}

// Traces implements store.Forgetter.
func (f *legacyForgetter) Traces(ctx context.Context) ([]store.Trace, error) {
	list, _, err := f.traces(ctx, f.l.pool)
	if err != nil {
		return nil, fmt.Errorf("read what the migration has in the legacy database: %w", err)
	}
	return list, nil
}

// Era implements store.Forgetter.
func (f *legacyForgetter) Era(ctx context.Context) (era uint32, err error) {
	err = f.l.pool.QueryRow(ctx, "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM "+f.l.era()).Scan(&era)
	if hasState(err, stateUndefinedTable, stateNoSchema) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read legacy's era: %w", err)
	}
	return era, nil
}

// Forget implements store.Forgetter, in one transaction.
func (f *legacyForgetter) Forget(ctx context.Context) error {
	l := f.l
	if err := l.upgrade(ctx); err != nil {
		return err
	}
	try := l.patiently(ctx, func(_, wait time.Duration) error { return f.forget(ctx, wait) })
	err := inTries(ctx, tableLockTimeout, try, func(time.Duration) {
		hint.Waiting(ctx, "the lock of legacy's table, to drop the fence's triggers", hint.Hint{})
	})
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return fmt.Errorf("remove migrator's schema from the legacy database: %w", err)
	}
	failpoint.Here("postgres.forget.legacy")
	return nil
}

// targetForgetter goes by the migration's name alone: the table may be gone.
type targetForgetter struct {
	t *Target
	o store.ForgetOptions
}

// OpenForget implements migration.ForgettingPart.
func (c *TargetConfig) OpenForget(ctx context.Context, m *migration.Config, _ *record.Schema, o store.ForgetOptions) (store.Forgetter, error) {
	pool, err := connect(ctx, "target", m.Target.URL)
	if err != nil {
		return nil, err
	}
	return &targetForgetter{&Target{pool: pool, migration: m.Name, side: pgx.Identifier{"migrator_target", m.Name}.Sanitize()}, o}, nil
}

// Era implements store.Forgetter: a target has none.
func (f *targetForgetter) Era(context.Context) (uint32, error) { return 0, nil }

func (f *targetForgetter) Close() error { f.t.pool.Close(); return nil }

// ours reports whether the target's mark, if there is one, is this migration's.
func (f *targetForgetter) ours(owner string) bool {
	return owner == "" || owner == f.o.Owner || f.o.AnyOwner && strings.HasPrefix(owner, f.t.migration+"@")
}

func (f *targetForgetter) owner(ctx context.Context, db pgx.Tx) (owner string, err error) {
	var marks bool
	if err := db.QueryRow(ctx, "SELECT to_regclass($1) IS NOT NULL", marksTable).Scan(&marks); err != nil || !marks {
		return "", err
	}
	err = db.QueryRow(ctx, `SELECT coalesce((SELECT owner FROM `+marksTable+` WHERE migration = $1), '')`, f.t.migration).Scan(&owner)
	return owner, err
}

// Traces implements store.Forgetter.
func (f *targetForgetter) Traces(ctx context.Context) (list []store.Trace, err error) {
	err = inTx(ctx, f.t.pool, pgx.ReadOnly, func(tx pgx.Tx) error {
		owner, err := f.owner(ctx, tx)
		if err != nil {
			return err
		}
		var there bool
		if err := tx.QueryRow(ctx, "SELECT to_regclass($1) IS NOT NULL", f.t.side).Scan(&there); err != nil {
			return err
		}
		if owner != "" && !f.ours(owner) {
			list = append(list, store.Trace{What: "the mark and the versions, which belong to another migration now: " + owner, Stays: true})
			return nil
		}
		if there {
			var live, gone int64
			if err := tx.QueryRow(ctx, "SELECT count(*) FILTER (WHERE NOT deleted), count(*) FILTER (WHERE deleted) FROM "+f.t.side).Scan(&live, &gone); err != nil {
				return err
			}
			list = append(list,
				store.Trace{What: "versions of records (" + f.t.side + ")", Count: live},
				store.Trace{What: "tombstones (the same table)", Count: gone})
		}
		if owner != "" {
			list = append(list, store.Trace{What: "the mark of " + owner, Count: 1})
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read what the migration has in the target database: %w", err)
	}
	return list, nil
}

// Forget implements store.Forgetter, in one transaction.
func (f *targetForgetter) Forget(ctx context.Context) error {
	err := inTx(ctx, f.t.pool, pgx.ReadWrite, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock(hashtextextended('migrator:install', 0))"); err != nil {
			return err
		}
		owner, err := f.owner(ctx, tx)
		if err != nil || !f.ours(owner) {
			return err
		}
		if _, err := tx.Exec(ctx, "DROP TABLE IF EXISTS "+f.t.side); err != nil {
			return err
		}
		for _, table := range []struct{ name, column string }{{marksTable, "migration"}, {targetAlive, "name"}} {
			var there bool
			if err := tx.QueryRow(ctx, "SELECT to_regclass($1) IS NOT NULL", table.name).Scan(&there); err != nil {
				return err
			}
			if !there {
				continue
			}
			if _, err := tx.Exec(ctx, "DELETE FROM "+table.name+" WHERE "+table.column+" = $1", f.t.migration); err != nil {
				return err
			}
		}
		// The tables of marks remain with another migration's versions.
		var empty bool
		if err := tx.QueryRow(ctx, `SELECT to_regnamespace('migrator_target') IS NOT NULL AND NOT EXISTS (SELECT FROM pg_class
			WHERE relnamespace = to_regnamespace('migrator_target') AND relkind IN ('r', 'p') AND oid NOT IN (coalesce(to_regclass($1), 0), coalesce(to_regclass($2), 0)))`,
			marksTable, targetAlive).Scan(&empty); err != nil || !empty {
			return err
		}
		_, err = tx.Exec(ctx, "DROP SCHEMA migrator_target CASCADE")
		return err
	})
	if err != nil {
		return fmt.Errorf("remove the migration from the target database: %w", err)
	}
	failpoint.Here("postgres.forget.target")
	return nil
}

func (f *legacyForgetter) forget(ctx context.Context, wait time.Duration) error {
	l := f.l
	return inTx(ctx, l.pool, pgx.ReadWrite, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock(hashtextextended('migrator:install', 0))"); err != nil {
			return err
		}
		var attempt *string
		var aside int64
		err := tx.QueryRow(ctx, `SELECT attempt, (SELECT count(*) FROM migrator_legacy.set_aside WHERE name = $1)
			FROM migrator_legacy.migration WHERE name = $1 FOR UPDATE`, l.name).Scan(&attempt, &aside)
		switch {
		case errors.Is(err, pgx.ErrNoRows) || errors.Is(asNotInstalled(err), errNotInstalled):
			return pgx.ErrNoRows
		case err != nil:
			return err
		}
		if fence, kept := f.refusal(attempt, aside); fence != nil || kept != nil {
			if fence != nil {
				return fence
			}
			return kept
		}
		if err := setLockTimeout(ctx, tx, wait); err != nil {
			return err
		}
		if err := l.dropFences(ctx, tx); err != nil {
			return err
		}
		if err := l.dropCapture(ctx, tx); err != nil {
			return err
		}
		for _, table := range []string{"alive", "set_aside"} {
			if _, err := tx.Exec(ctx, "DELETE FROM migrator_legacy."+table+" WHERE name = $1", l.name); err != nil {
				return err
			}
		}
		var left bool
		if err := tx.QueryRow(ctx, "DELETE FROM migrator_legacy.migration WHERE name = $1 RETURNING EXISTS (SELECT FROM migrator_legacy.migration WHERE name <> $1)", l.name).Scan(&left); err != nil {
			return err
		}
		drop := "DROP SEQUENCE IF EXISTS " + l.era()
		if !left {
			drop = "DROP SCHEMA migrator_legacy CASCADE"
		}
		_, err = tx.Exec(ctx, drop)
		return err
	})
}
