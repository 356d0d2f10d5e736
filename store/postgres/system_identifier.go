package postgres

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/record"
)

// tableLockTimeout limits the wait for the table if the caller gives no timeout.
const tableLockTimeout = 10 * time.Second

// CheckSystem starts a new era if the server has another system identifier than before:
// after pg_upgrade or a restore, positions in its log can't be compared with those from
// before. It returns errNotInstalled if Install has not been called.
func (l *Legacy) CheckSystem(ctx context.Context) error {
	now, known, err := l.system(ctx, l.pool)
	if err != nil || now == "" || now == known {
		return err
	}
	return l.locked(ctx, tableLockTimeout, "SHARE ROW EXCLUSIVE", func(tx pgx.Tx) error {
		now, known, err := l.system(ctx, tx)
		if err != nil || now == known {
			return err
		}
		if known != "" {
			// [system-era]: the positions of the new server may be lower than those of the old one.
			era, err := l.startEra(ctx, tx, 0)
			if err != nil {
				return err
			}
			if err := l.mark(ctx, tx, Marker{Kind: MarkEra, Era: era}); err != nil {
				return err
			}
		}
		_, err = tx.Exec(ctx, "UPDATE migrator_legacy.migration SET system_identifier = $2 WHERE name = $1", l.name, now)
		return err
	})
}

type rowQuerier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// system returns the server's identifier and the recorded one; "" if it is not
// known, or the role may not read it.
func (l *Legacy) system(ctx context.Context, db rowQuerier) (now, known string, err error) {
	var readable bool
	err = db.QueryRow(ctx, `SELECT coalesce(system_identifier, ''), has_function_privilege('pg_control_system()', 'EXECUTE')
		FROM migrator_legacy.migration WHERE name = $1`, l.name).Scan(&known, &readable)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", "", errNotInstalled
	}
	if err != nil || !readable {
		return "", known, asNotInstalled(err)
	}
	err = db.QueryRow(ctx, "SELECT system_identifier::text FROM pg_control_system()").Scan(&now)
	return now, known, err
}

// RaiseEra implements store.EraRaiser.
func (l *Legacy) RaiseEra(ctx context.Context, above record.Version) (era uint32, err error) {
	raise := func(tx pgx.Tx) error {
		era, err = l.raiseEra(ctx, tx, above)
		return err
	}
	var secret string
	if secret, err = l.secret(ctx, l.pool); err == nil && secret != "" {
		// [capture-marked]: a change that commits between the new era and its marker would be brought at the
		// era before, and be refused by what a writer has stamped since.
		err = l.locked(ctx, tableLockTimeout, "SHARE", raise)
	} else if err == nil {
		err = inTx(ctx, l.pool, pgx.ReadWrite, func(tx pgx.Tx) error {
			if err := setLockTimeout(ctx, tx, tableLockTimeout); err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", advisoryName(l.name)); err != nil {
				return err
			}
			return raise(tx)
		})
	}
	if err == nil {
		err = l.awaitStandbys(ctx, tableLockTimeout, false)
	}
	if err != nil {
		return 0, fmt.Errorf("raise the era of legacy table %s above %d: %w", l.table(), above.Era(), l.explainLock(ctx, asNotInstalled(err)))
	}
	return era, nil
}

// raiseEra is RaiseEra in a transaction that holds the advisory lock.
func (l *Legacy) raiseEra(ctx context.Context, tx pgx.Tx, above record.Version) (uint32, error) {
	// Its commit must not be lost: the target will have versions of the new era.
	if _, err := tx.Exec(ctx, "SET LOCAL synchronous_commit = on"); err != nil {
		return 0, err
	}
	// [raise-locked]: read and set under the lock of the fence's row: else a fence that is raised
	// and lifted in between would have its era undone. Writers of rows need not wait: a row's version
	// only grows, since each is read under the row's lock.
	f, err := l.fence(ctx, tx, " FOR UPDATE")
	switch {
	case err != nil:
		return 0, err
	case f.attempt != "":
		return 0, hint.Errorf(hint.Hint{Do: hint.RollbackToGrace}, "the fence of attempt %s is raised: lifting it raises the era", f.attempt)
	case f.era > above.Era():
		return f.era, nil
	}
	if timeline, _ := above.Position(); f.era == above.Era() && l.version == "" {
		var own int64
		if err := tx.QueryRow(ctx, "SELECT ('x' || left(pg_walfile_name('0/1'), 8))::bit(32)::int8").Scan(&own); err != nil {
			return 0, err
		}
		// [raise-behind]: a raised era would let this server's writes beat those of the promoted one.
		if int64(timeline) > own {
			return 0, hint.Errorf(hint.Hint{Text: "point legacy's URL at the promoted server"},
				"this server is on timeline %d, and the target has a version of timeline %d: another server was promoted in its place", own, timeline)
		}
	}
	era, err := l.startEra(ctx, tx, above.Era())
	if err != nil {
		return 0, err
	}
	return era, l.mark(ctx, tx, Marker{Kind: MarkEra, Era: era})
}

// startEra starts an era above the present one and the given one. The caller must hold the
// advisory lock, so that no locked read is in flight, and the table's lock or that of the
// fence's row. A rollback of the transaction does not undo it.
func (l *Legacy) startEra(ctx context.Context, tx pgx.Tx, above uint32) (uint32, error) {
	var era int64
	err := tx.QueryRow(ctx, "SELECT greatest(last_value, $1::int8) + 1 FROM "+l.era(), int64(above)).Scan(&era)
	if err != nil {
		return 0, err
	}
	if era > math.MaxUint32 {
		return 0, fmt.Errorf("the migration has used up its eras")
	}
	// [version-era]: a sequence is read outside MVCC: no snapshot shows the former era.
	_, err = tx.Exec(ctx, "SELECT setval($1::text::regclass, $2, true)", l.era(), era)
	return uint32(era), err
}
