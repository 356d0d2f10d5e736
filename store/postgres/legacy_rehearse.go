package postgres

import (
	"context"
	"errors"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/internal/oneline"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// rehearse does what writes, repairs and a return will do, on one record that no other
// transaction has locked, in transactions that are rolled back: a server that only speaks PostgreSQL's protocol may refuse it,
// and then each write of the application fails. The record's own triggers run.
func (l *Legacy) rehearse(ctx context.Context, f *findings) error {
	lacking, err := l.shape.lacking(ctx, l.pool, "SELECT", "INSERT", "UPDATE", "DELETE")
	if err != nil || len(lacking) > 0 { // a check of its own says so
		return err
	}
	attempt, _, err := l.FenceState(ctx)
	installed := !errors.Is(err, errNotInstalled)
	if err != nil && installed {
		return err
	}
	if err := l.rehearseVersion(ctx, f, installed); err != nil || attempt != "" {
		return err // while the fence is raised it refuses every write
	}
	return l.rehearseReturn(ctx, f)
}

// rehearseVersion asks for a version twice under a row's lock: the second must not be older.
func (l *Legacy) rehearseVersion(ctx context.Context, f *findings, installed bool) error {
	version := positionSQL
	switch {
	case installed && l.version != "":
		version = versionColumnExpr(l.name, "1")
	case installed:
		version = VersionExpr(l.name)
	case l.version != "":
		return nil // until apply there is nothing to run
	}
	var versions [2]string
	err := rolledBack(ctx, l, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SELECT FROM "+l.shape.name.Sanitize()+" t LIMIT 1 FOR SHARE OF t SKIP LOCKED"); err != nil {
			return err
		}
		for i := range versions {
			if err := tx.QueryRow(ctx, "SELECT "+version).Scan(&versions[i]); err != nil {
				return err
			}
		}
		return nil
	})
	switch {
	case err != nil && isServers(err):
		f.refuse("legacy-versions", "name a column that a sequence feeds under legacy.version_column, if the server has no write-ahead log of its own; else see the privileges",
			"the server gives no version of a write, and every write of the application would fail: %v", withoutValue(err))
	case err != nil:
		return err
	case versions[1] < versions[0]:
		f.refuse("legacy-versions", "name a column that a sequence feeds under legacy.version_column",
			"of two versions that were taken under one lock the later is the older one: writes would be dropped")
	default:
		f.good("legacy-versions", "a locked record has a version, and a later one is not older")
	}
	return nil
}

// rehearseReturn writes a record over itself as a return from retain does.
func (l *Legacy) rehearseReturn(ctx context.Context, f *findings) error {
	var row *store.Row
	var why *store.Refusal
	var changed []string
	err := rolledBack(ctx, l, func(tx pgx.Tx) (err error) {
		w, err := l.replayWriter(ctx, tx, "")
		if err != nil {
			return err
		}
		defer w.close(ctx)
		w.keep = true
		if row, err = l.freeRow(ctx, tx); err != nil || row == nil {
			return err
		}
		if why, err = w.group(ctx, []store.Row{*row}); err != nil || why != nil {
			return err
		}
		for i, c := range l.shape.columns {
			if c.name != l.version && w.taken[0].Record[i] != row.Record[i] {
				changed = append(changed, quote(oneline.Escape(c.name)))
			}
		}
		return nil
	})
	switch {
	case hasState(err, stateLockNotAvailable, stateDeadlock, stateSerialization):
	case err != nil && isServers(err):
		f.refuse("legacy-rehearsal", "see the key's index, and the rules of the table", "a return from retain could not write to %s: %v", l.table(), withoutValue(err))
	case err != nil:
		return err
	case why != nil:
		f.warn("legacy-rehearsal", "see the triggers and constraints of "+l.table(), "a return from retain could not write the record of key %q, though it changes nothing: SQLSTATE %s", row.Key, why.Code)
	case len(changed) > 0:
		f.warn("legacy-rehearsal", "let the trigger pass where current_setting('migrator.attempt', true) is not empty",
			"a trigger changes what a return from retain writes to %s: columns %s", l.table(), strings.Join(changed, ", "))
	case row != nil:
		f.good("legacy-rehearsal", "a record was written over itself, as a return does, and rolled back")
	default:
		f.good("legacy-rehearsal", "a return's statements fit the table; no record was there, or free, to write")
	}
	return nil
}

// freeRow locks a row that no other transaction has locked; nil: there is none.
func (l *Legacy) freeRow(ctx context.Context, tx pgx.Tx) (*store.Row, error) {
	rows, err := tx.Query(ctx, "SELECT "+l.shape.list("t.")+" FROM "+l.shape.name.Sanitize()+" t LIMIT 1 FOR UPDATE OF t SKIP LOCKED", textResults)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	if !rows.Next() {
		return nil, rows.Err()
	}
	found, err := l.shape.decoder().row(rows.RawValues())
	if err != nil {
		return nil, err
	}
	return &store.Row{Key: record.Key(strings.Clone(string(found.Key))), Found: true, Record: found.Record.Clone()}, nil
}

// rolledBack runs do in a transaction that waits a second for a lock at most.
func rolledBack(ctx context.Context, l *Legacy, do func(pgx.Tx) error) error {
	err := inTx(ctx, l.pool, pgx.ReadWrite, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SELECT set_config('lock_timeout', '1s', true)"); err != nil {
			return err
		}
		if err := do(tx); err != nil {
			return err
		}
		return errRehearsed
	})
	if errors.Is(err, errRehearsed) {
		return nil
	}
	return err
}
