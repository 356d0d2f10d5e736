package state

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/pgfail"
	"github.com/stranglerfig/migrator/internal/statedb"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/phases"
)

// Applied is a migration file as it was applied.
type Applied struct {
	Migration   string
	Environment string
	Config      []byte // the migration file as JSON, without secrets
	ConfigHash  string
	Schema      []byte // record.Schema as JSON
	Reversible  bool   // retain journals the keys it writes
}

// Apply creates the migration at legacy, epoch 1, or records that its migration file
// has changed: results bound to the former config hash open no gate any more, the epoch
// stays. Nothing is written if nothing changed.
func (s *Store) Apply(ctx context.Context, a Applied) (st phases.Status, created bool, err error) {
	lease, renew, err := leaseTimes(a.Config)
	if err != nil {
		return st, false, err
	}
	tag, err := s.insert(ctx, a, lease, renew)
	if err != nil {
		return st, false, err
	}
	if tag {
		st, err = s.Status(ctx, a.Migration)
		return st, true, err
	}
	// With the row locked exclusively: a step that was decided under the former configuration is
	// committed before, or finds the hash changed.
	err = s.exclusive(ctx, a.Migration, func(tx pgx.Tx) error {
		if err := change(ctx, tx, a, lease, renew); err != nil {
			return err
		}
		st, err = statedb.ReadStatus(ctx, tx, a.Migration)
		return err
	})
	return st, false, err
}

func (s *Store) insert(ctx context.Context, a Applied, lease, renew time.Duration) (created bool, err error) {
	err = pgx.BeginTxFunc(ctx, s.pool, statedb.ReadCommitted, func(tx pgx.Tx) error {
		// Of two commands that apply a new migration concurrently, one creates it; the other finds
		// it and compares.
		tag, err := tx.Exec(ctx, `INSERT INTO migrator.migrations (name, environment, config, config_hash, schema, reversible,
				lease_ms, renew_ms, phase, percent, epoch, phase_since, route_since)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 'legacy', 0, 1, clock_timestamp(), clock_timestamp())
			ON CONFLICT (name) DO NOTHING`,
			a.Migration, a.Environment, string(a.Config), a.ConfigHash, string(a.Schema), a.Reversible,
			lease.Milliseconds(), renew.Milliseconds())
		if err != nil || tag.RowsAffected() == 0 {
			return err
		}
		created = true
		if _, err := tx.Exec(ctx, `INSERT INTO migrator.epochs (migration, epoch, phase, percent, began_at, settled_at)
			SELECT name, epoch, phase, percent, route_since, route_since FROM migrator.migrations WHERE name = $1`, a.Migration); err != nil {
			return err
		}
		return note(ctx, tx, a.Migration, phases.CauseCreated, "", map[string]any{"environment": a.Environment, "reversible": a.Reversible})
	})
	if pgfail.SQLState(err) == pgfail.CheckViolation {
		return false, fmt.Errorf("the migration's name %q: want 1 to 63 lower-case letters, digits, - and _: %w", a.Migration, err)
	}
	return created, statedb.Explain(err)
}

func change(ctx context.Context, tx pgx.Tx, a Applied, lease, renew time.Duration) error {
	var before Applied
	var phase phases.Phase
	var same bool
	err := tx.QueryRow(ctx, `SELECT environment, config_hash, reversible, phase,
			(environment, config_hash, reversible, schema::jsonb) = ($2, $3, $4, $5::jsonb)
		FROM migrator.migrations WHERE name = $1`, a.Migration, a.Environment, a.ConfigHash, a.Reversible, string(a.Schema)).
		Scan(&before.Environment, &before.ConfigHash, &before.Reversible, &phase, &same)
	if err != nil || same {
		return err
	}
	// [return-reversible]: what retain wrote without journalling can't be journalled afterwards.
	if before.Reversible != a.Reversible && statedb.Fenced(phase) {
		return hint.Errorf(hint.Hint{Do: hint.RollbackToGrace}, "retain.reversible can't be changed at %s: writes since the fence were made under the other setting", phase)
	}
	_, err = tx.Exec(ctx, `UPDATE migrator.migrations SET environment = $2, config = $3, config_hash = $4, schema = $5,
			reversible = $6, lease_ms = $7, renew_ms = $8,
			fault = CASE WHEN $2 = 'staging' THEN fault END, fault_until = CASE WHEN $2 = 'staging' THEN fault_until END
		WHERE name = $1`,
		a.Migration, a.Environment, string(a.Config), a.ConfigHash, string(a.Schema), a.Reversible, lease.Milliseconds(), renew.Milliseconds())
	if err != nil {
		return err
	}
	return note(ctx, tx, a.Migration, phases.CauseConfig, "", map[string]any{
		"before": map[string]any{"config_hash": before.ConfigHash, "environment": before.Environment, "reversible": before.Reversible},
		"after":  map[string]any{"config_hash": a.ConfigHash, "environment": a.Environment, "reversible": a.Reversible},
	})
}

// leaseTimes reads the fleet's timing from a migration file; a lease lasts at least
// three renewals.
func leaseTimes(config []byte) (lease, renew time.Duration, err error) {
	var c struct {
		Fleet migration.Fleet `json:"fleet"`
	}
	if err := json.Unmarshal(config, &c); err != nil {
		return 0, 0, fmt.Errorf("the migration file's JSON can't be decoded: %w", err)
	}
	lease, renew = statedb.LeaseTimes(time.Duration(c.Fleet.Lease), time.Duration(c.Fleet.Renew))
	return lease, renew, nil
}

// Config returns the migration file that is applied. Its Config and Schema are as Apply
// got them.
func (s *Store) Config(ctx context.Context, migration string) (Applied, error) {
	a, err := readApplied(ctx, s.pool, migration)
	return a, statedb.Explain(err)
}

func readApplied(ctx context.Context, q statedb.Querier, migration string) (Applied, error) {
	a := Applied{Migration: migration}
	var config, schema string
	err := q.QueryRow(ctx, `SELECT environment, config::text, config_hash, schema::text, reversible
		FROM migrator.migrations WHERE name = $1`, migration).Scan(&a.Environment, &config, &a.ConfigHash, &schema, &a.Reversible)
	if errors.Is(err, pgx.ErrNoRows) {
		return a, statedb.UnknownMigration(ctx, q, migration)
	}
	a.Config, a.Schema = []byte(config), []byte(schema)
	return a, err
}
