// Package captures stores how far change capture has come, and has the lock of the process that captures.
package captures

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/stranglerfig/migrator/internal/capture"
	"github.com/stranglerfig/migrator/internal/statedb"
	"github.com/stranglerfig/migrator/phases"
)

// Ledger is that of one migration. Begin, Held, Save and Journal belong to one running capture: use a separate
// value for each.
type Ledger struct {
	pool      *pgxpool.Pool
	migration string
	unclean   func(ctx context.Context, migration, why string) error

	mu   sync.Mutex
	lock *statedb.JobLock
}

var _ capture.Ledger = (*Ledger)(nil)

// New returns the ledger of the migration. unclean marks it: see state.Store.MarkUnclean.
func New(pool *pgxpool.Pool, migration string, unclean func(ctx context.Context, migration, why string) error) *Ledger {
	return &Ledger{pool: pool, migration: migration, unclean: unclean}
}

// Begin implements capture.Ledger.
func (l *Ledger) Begin(ctx context.Context) (p capture.Progress, release func(), err error) {
	job := "capture " + l.migration
	lock, err := statedb.TakeJob(ctx, l.pool, job)
	if err != nil {
		return p, nil, err
	}
	if lock == nil {
		return p, nil, fmt.Errorf("%w%s", capture.ErrRunning, statedb.JobHolder(ctx, l.pool, job))
	}
	err = lock.Do(ctx, func(tx pgx.Tx) error {
		var there bool
		if err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM migrator.migrations WHERE name = $1)`, l.migration).Scan(&there); err != nil {
			return err
		}
		if !there {
			return statedb.UnknownMigration(ctx, tx, l.migration)
		}
		p, err = read(ctx, tx, l.migration)
		return err
	})
	if err != nil {
		lock.Release()
		return capture.Progress{}, nil, err
	}
	l.mu.Lock()
	l.lock = lock
	l.mu.Unlock()
	return p, lock.Release, nil
}

// Load reads the saved progress; zero: there is none.
func (l *Ledger) Load(ctx context.Context) (capture.Progress, error) {
	p, err := read(ctx, l.pool, l.migration)
	return p, statedb.Explain(err)
}

func read(ctx context.Context, db statedb.Querier, migration string) (p capture.Progress, err error) {
	var text string
	var lost string
	err = db.QueryRow(ctx, `SELECT progress::text, lost FROM migrator.captures WHERE migration = $1`, migration).Scan(&text, &lost)
	if errors.Is(err, pgx.ErrNoRows) {
		return p, nil
	}
	if err != nil {
		return p, err
	}
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		return p, fmt.Errorf("the progress of capture can't be read: %w", err)
	}
	p.Lost = lost
	return p, nil
}

// do runs f in the session that has the lock.
func (l *Ledger) do(ctx context.Context, f func(tx pgx.Tx) error) error {
	l.mu.Lock()
	lock := l.lock
	l.mu.Unlock()
	if lock == nil {
		return statedb.ErrReleased
	}
	return lock.Do(ctx, f)
}

// Held implements capture.Ledger.
func (l *Ledger) Held(ctx context.Context) error {
	return l.do(ctx, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `SELECT 1`)
		return err
	})
}

// Save implements capture.Ledger. [capture-progress]: over the connection that has the lock: a process that has
// lost it can't save.
func (l *Ledger) Save(ctx context.Context, p capture.Progress) error {
	text, err := json.Marshal(p)
	if err != nil {
		return err
	}
	return l.do(ctx, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `SELECT migrator.save_capture($1, $2::jsonb)`, l.migration, string(text))
		return err
	})
}

// Now is the state database's clock.
func (l *Ledger) Now(ctx context.Context) (now time.Time, err error) {
	err = l.pool.QueryRow(ctx, `SELECT clock_timestamp()`).Scan(&now)
	return now.UTC(), statedb.Explain(err)
}

// Report stores what the process that captures does, or why none does.
func (l *Ledger) Report(ctx context.Context, c phases.Capture) error {
	c.Error = statedb.CleanText(c.Error)
	text, err := json.Marshal(c)
	if err != nil {
		return err
	}
	_, err = l.pool.Exec(ctx, `SELECT migrator.report_capture($1, $2::jsonb)`, l.migration, string(text))
	return statedb.Explain(err)
}

// Journal implements capture.Ledger.
func (l *Ledger) Journal(ctx context.Context, refused []capture.Refused) error {
	keys, versions, reasons := make([][]byte, len(refused)), make([]string, len(refused)), make([]string, len(refused))
	for i, r := range refused {
		keys[i], versions[i], reasons[i] = []byte(r.Key), string(r.Version.AppendText32(nil)), statedb.CleanText(r.Err.Error())
	}
	return l.do(ctx, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `SELECT migrator.journal_captured($1, $2::bytea[], $3::text[], $4::text[])`, l.migration, keys, versions, reasons)
		return err
	})
}

// Unclean implements capture.Ledger.
func (l *Ledger) Unclean(ctx context.Context, why string) error {
	return l.unclean(ctx, l.migration, why)
}
