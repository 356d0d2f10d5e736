package postgres

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/jackc/pgx/v5"
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
			if _, err := l.startEra(ctx, tx, 0); err != nil {
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

// RaiseEra starts a new era that is at least the given one, and returns it. An
// operator must raise the era if legacy was restored from a backup that is older than
// its last fence.
func (l *Legacy) RaiseEra(ctx context.Context, least uint32) (uint32, error) {
	var era uint32
	err := l.locked(ctx, tableLockTimeout, "SHARE ROW EXCLUSIVE", func(tx pgx.Tx) (err error) {
		era, err = l.startEra(ctx, tx, least)
		return err
	})
	return era, err
}

// startEra starts a new era. The caller must hold the table's lock, so that no write is
// in flight, and the advisory lock, so that no locked read is. A rollback of the
// transaction does not undo it.
func (l *Legacy) startEra(ctx context.Context, tx pgx.Tx, least uint32) (uint32, error) {
	var era int64
	err := tx.QueryRow(ctx, "SELECT greatest(last_value + 1, $1::int8) FROM "+l.era(), int64(least)).Scan(&era)
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
