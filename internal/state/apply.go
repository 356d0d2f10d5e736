package state

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
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
	Schema      []byte // record.Schema as JSON: the columns that are moved
	Moves       string // migration.Config.Moves; "": not said, and no instance is compared with it
	// Former is what instances moved before Schema, and may still move; nil: none may.
	Former     []byte
	Reversible bool // retain journals the keys it writes
}

// StoredHash is phases.Status.StoredHash of the file, as Config of Store returned it.
func (a Applied) StoredHash() string {
	sum := sha256.Sum256(a.Config)
	return hex.EncodeToString(sum[:])
}

// ToApply is a migration file as Apply stores it, but for legacy's columns.
func ToApply(m *migration.Config) (Applied, error) {
	config, err := m.Public()
	return Applied{
		Migration: m.Name, Environment: m.Environment, Config: config, ConfigHash: m.Hash(),
		Moves: m.Moves(), Reversible: m.Phases.Retain.Reversible == nil || *m.Phases.Retain.Reversible,
	}, err
}

// Stored is what an Apply has stored.
type Stored struct {
	Created bool
	// Changes are the keys whose values were stored; empty if the file was applied already.
	Changes []KeyChange
	// Columns: legacy's columns are not those that were stored before.
	Columns bool
	// Epoch: a new epoch began: the share of compared reads is part of the route, or other columns are moved.
	Epoch bool
	// Void: results bound to the former config hash open no gate any more.
	Void bool
}

// Any reports whether anything was stored.
func (s Stored) Any() bool { return s.Created || s.Columns || s.Void || len(s.Changes) > 0 }

// Apply creates the migration at legacy, epoch 1, or stores all that its migration file
// changes, with an entry in the history. The epoch stays. Nothing is written if nothing
// changed. *ChangeRefusedError, and nothing is written, if a change is refused in the present phase.
func (s *Store) Apply(ctx context.Context, a Applied) (st phases.Status, done Stored, err error) {
	lease, renew, err := leaseTimes(a.Config)
	if err != nil {
		return st, done, err
	}
	if done.Created, err = s.insert(ctx, a, lease, renew); err != nil {
		return st, done, err
	}
	if done.Created && IsDryRun(ctx) {
		first := phases.Route{Phase: phases.Legacy, Epoch: 1}
		return phases.Status{Migration: a.Migration, Route: first, ConfigHash: a.ConfigHash}, done, nil
	}
	if done.Created {
		st, err = s.Status(ctx, a.Migration)
		return st, done, err
	}
	// With the row locked exclusively: a step that was decided under the former configuration is
	// committed before, or finds that the file has changed.
	err = s.exclusive(ctx, a.Migration, func(tx pgx.Tx) error {
		if done, err = change(ctx, tx, a, lease, renew); err != nil {
			return err
		}
		st, err = statedb.ReadStatus(ctx, tx, a.Migration)
		return err
	})
	if err == nil && done.Epoch {
		s.markSettled(ctx, a.Migration)
	}
	return st, done, err
}

// Compare is what Apply would store of a migration file, or would refuse. Columns are not compared.
// An unknown migration has no changes.
func (s *Store) Compare(ctx context.Context, a Applied) (changes []KeyChange, err error) {
	e, before, err := s.Open(ctx, a.Migration)
	if errors.Is(err, statedb.ErrUnknownMigration) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if changes, err = ChangesOf(before.Config, a.Config); err != nil {
		return nil, err
	}
	return changes, checkChanges(e.Status.Route, before, a, changes)
}

func (s *Store) insert(ctx context.Context, a Applied, lease, renew time.Duration) (created bool, err error) {
	err = statedb.InTx(ctx, s.pool, statedb.ReadCommitted, func(tx pgx.Tx) error {
		// Of two commands that apply a new migration concurrently, one creates it; the other finds
		// it and compares.
		return tx.QueryRow(ctx, `SELECT migrator.create_migration($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
			a.Migration, a.Environment, string(a.Config), a.ConfigHash, string(a.Schema), a.Reversible,
			lease.Milliseconds(), renew.Milliseconds(), a.Moves).Scan(&created)
	})
	if pgfail.SQLState(err) == pgfail.CheckViolation {
		return false, fmt.Errorf("the migration's name %q: want 1 to 63 lower-case letters, digits, - and _: %w", a.Migration, err)
	}
	return created, statedb.Explain(err)
}

// change compares whole documents, not hashes: the config hash leaves out what may be tuned.
func change(ctx context.Context, tx pgx.Tx, a Applied, lease, renew time.Duration) (done Stored, err error) {
	var at phases.Route
	before, err := readApplied(ctx, tx, a.Migration)
	if err != nil {
		return done, err
	}
	err = tx.QueryRow(ctx, `SELECT phase, percent, epoch, schema::jsonb <> $2::jsonb FROM migrator.migrations WHERE name = $1`,
		a.Migration, string(a.Schema)).Scan(&at.Phase, &at.Percent, &at.Epoch, &done.Columns)
	if err != nil {
		return done, err
	}
	if done.Changes, err = ChangesOf(before.Config, a.Config); err != nil {
		return done, err
	}
	if err := checkChanges(at, before, a, done.Changes); err != nil {
		return Stored{}, err
	}
	if err := admitMoves(before.Moves, a.Moves, at.Phase); err != nil {
		return Stored{}, err
	}
	done.Void = before.ConfigHash != a.ConfigHash
	if !done.Any() && before.Moves == a.Moves && before.Environment == a.Environment && before.Reversible == a.Reversible {
		return done, nil
	}
	evidence := map[string]any{
		"before":  map[string]any{"config_hash": before.ConfigHash, "environment": before.Environment, "reversible": before.Reversible},
		"after":   map[string]any{"config_hash": a.ConfigHash, "environment": a.Environment, "reversible": a.Reversible},
		"changes": done.Changes, "columns": done.Columns, "evidence_void": done.Void,
	}
	how := noteChange
	if changesRoute(at, done.Changes) {
		if err := newEpoch(ctx, tx, a.Migration); err != nil {
			return done, err
		}
		how, done.Epoch = beginEpoch, true
	}
	return done, keep(ctx, tx, a, lease, renew, how, reasonOf(done), evidence)
}

// How a change of the configuration shows in the history; migrator.change_configuration's own words.
const (
	noteChange  = "note"
	beginEpoch  = "epoch"   // of the same route, so that every instance learns of the new share
	moveColumns = "columns" // and other columns are moved from now on
)

func keep(ctx context.Context, tx pgx.Tx, a Applied, lease, renew time.Duration, how, reason string, evidence any) error {
	doc, err := json.Marshal(evidence)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `SELECT migrator.change_configuration($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12::jsonb)`,
		a.Migration, a.Environment, string(a.Config), a.ConfigHash, string(a.Schema), a.Reversible, lease.Milliseconds(), renew.Milliseconds(), a.Moves,
		how, statedb.CleanText(reason), string(doc))
	return err
}

// changesRoute reports whether the share of compared reads changes on the route, which is part of it:
// see statedb.ShadowSQL.
func changesRoute(at phases.Route, changes []KeyChange) bool {
	return (at.Phase == phases.Cutover || at.Phase == phases.Grace) && slices.ContainsFunc(changes, func(c KeyChange) bool {
		return c.Key == "phases."+string(at.Phase)+".shadow"
	})
}

// newEpoch refuses a new epoch of the present phase and percentage where one can't begin. No other move can
// be in the way of it: instances on either epoch treat the stores alike.
func newEpoch(ctx context.Context, tx pgx.Tx, migrationName string) error {
	st, err := statedb.ReadStatus(ctx, tx, migrationName)
	if err != nil {
		return err
	}
	refused := &ChangeRefusedError{Migration: migrationName, Route: st.Route, Changes: []KeyChange{{Key: "phases." + string(st.Route.Phase) + ".shadow"}}}
	switch {
	case st.StateLoss != nil: // [loss-blocks]: an epoch above the reported one would hide the loss
		refused.why, refused.hint = "It begins a new epoch, and "+st.StateLoss.Describe(st.Route), phases.StateLossHint()
		return refused
	case st.Attempt != "": // [fence-attempt]: the attempt's own steps compare the epoch
		refused.why = "It begins a new epoch, and a fence may stand on legacy: it must be passed or lifted first"
		refused.hint = hint.Hint{Do: hint.RollbackToGrace}
		return refused
	}
	return nil
}

// reasonOf names the changed keys.
func reasonOf(done Stored) string {
	var keys []string
	for _, c := range done.Changes {
		keys = append(keys, c.Key)
	}
	if done.Columns {
		keys = append(keys, "legacy's columns")
	}
	if len(keys) > reasonKeys {
		keys = append(keys[:reasonKeys:reasonKeys], fmt.Sprintf("and %d more", len(keys)-reasonKeys))
	}
	return strings.Join(keys, ", ")
}

const reasonKeys = 10

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
	err := q.QueryRow(ctx, `SELECT environment, config::text, config_hash, schema::text, reversible, moves, former_schema::text
		FROM migrator.migrations WHERE name = $1`, migration).Scan(&a.Environment, &config, &a.ConfigHash, &schema, &a.Reversible, &a.Moves, &a.Former)
	if errors.Is(err, pgx.ErrNoRows) {
		return a, statedb.UnknownMigration(ctx, q, migration)
	}
	a.Config, a.Schema = []byte(config), []byte(schema)
	return a, err
}
