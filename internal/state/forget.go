package state

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/internal/failpoint"
	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/humanize"
	"github.com/stranglerfig/migrator/internal/statedb"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/store"
)

// forgottenTables are those whose rows of a migration migrator.forget deletes with it. Others keep theirs: see
// keptTables.
var forgottenTables = []struct{ name, where string }{
	{"reconcile_coverage", "run IN (SELECT id FROM migrator.reconcile_runs WHERE migration = $1)"},
	{"reconcile_findings", "run IN (SELECT id FROM migrator.reconcile_runs WHERE migration = $1)"},
	{"reconcile_jobs", "run IN (SELECT id FROM migrator.reconcile_runs WHERE migration = $1)"},
	{"reconcile_runs", "migration = $1"},
	{"reconcile_schedule", "migration = $1"},
	{"backfills", "migration = $1"},
	{"drills", "migration = $1"},
	{"runbook_verifications", "migration = $1"},
	{"journal", "migration = $1"},
	{"return_journal", "migration = $1"},
	{"returns", "migration = $1"},
	{"leases", "migration = $1"},
	{"windows", "migration = $1"},
	{"incarnations", "migration = $1"},
	{"buckets", "migration = $1"},
	{"unreadable", "migration = $1"},
	{"outbox", "migration = $1"},
	{"bypass", "migration = $1"},
	{"columns_seen", "migration = $1"},
	{"checks", "migration = $1"},
	{"alerts", "migration = $1"},
	{"parts", "migration = $1"},
	{"captures", "migration = $1"},
	{"fences", "migration = $1"},
	{"marks", "migration = $1"},
	{"servers_seen", "migration = $1"},
	{"epochs", "migration = $1"},
	{"migrations", "name = $1"},
}

// keptTables keep a migration's rows: none may delete them.
// Grants are of a name: they can be given before the migration is applied, and stay when it is forgotten.
var keptTables = []string{"history", "approvals", "runbook_runs", "evaluations", "grants", "configurations"}

// ForgottenTables lists the tables whose rows of a migration are deleted with it.
func ForgottenTables() (names []string) {
	for _, t := range forgottenTables {
		names = append(names, t.name)
	}
	return names
}

// Traces lists what the state has of a migration, in the order in which it is removed.
func (s *Store) Traces(ctx context.Context, migration string) (list []store.Trace, err error) {
	err = pgx.BeginTxFunc(ctx, s.pool, statedb.RepeatableRead, func(tx pgx.Tx) error {
		count := func(table, where string, stays bool) error {
			var n int64
			if err := tx.QueryRow(ctx, `SELECT count(*) FROM migrator.`+table+` WHERE `+where, migration).Scan(&n); err != nil {
				return err
			}
			if n > 0 {
				list = append(list, store.Trace{What: "migrator." + table, Count: n, Stays: stays})
			}
			return nil
		}
		for _, t := range forgottenTables {
			if err := count(t.name, t.where, false); err != nil {
				return err
			}
		}
		for _, t := range keptTables {
			if err := count(t, "migration = $1", true); err != nil {
				return err
			}
		}
		return nil
	})
	return list, statedb.Explain(err)
}

// Forgettable refuses to forget a migration that is in use.
func Forgettable(e phases.Snapshot) error {
	st := e.Status
	switch p := st.Route.Phase; {
	case st.StateLoss != nil:
		return hint.Errorf(phases.StateLossHint(), "%s", st.StateLoss.Describe(st.Route))
	case p != phases.Legacy && p != phases.ShadowWrite && p != phases.Complete:
		return hint.Errorf(hint.Hint{Do: hint.RollbackTo, Of: []string{string(phases.Legacy)}, Text: "and then forget it; or complete it"},
			"%s is on %s: a migration is forgotten in legacy, in shadow-write without instances, or when it is complete", st.Migration, st.Route)
	case st.Attempt != "" && p != phases.Complete:
		return hint.Errorf(hint.Hint{Do: hint.RollbackToGrace}, "a command moves authority, or was interrupted: the attempt %s", st.Attempt)
	case e.Fleet.Live > 0:
		return hint.Errorf(hint.Hint{Do: hint.FleetList, Text: "; deploy the application without dual first"},
			"%s of the application %s %s", humanize.Counted(e.Fleet.Live, "instance"), humanize.Either(e.Fleet.Live, "uses", "use"), st.Migration)
	case len(e.Fleet.Lapsed) > 0:
		return hint.Errorf(phases.EvictHint(e.Fleet.Lapsed[0]), "the lease of %s expired without leaving: it may still run", e.Fleet.Lapsed[0])
	}
	return nil
}

// InUseError refuses to forget a migration that a process uses now.
type InUseError struct{ error }

func (e *InUseError) Unwrap() error { return e.error }

// BeginForget keeps instances from joining the migration, and the daemon, runs and drills from
// working on it until release. It is refused where the migration is in use, also by a process that runs one
// of these now: *InUseError.
func (s *Store) BeginForget(ctx context.Context, migration string) (e phases.Snapshot, release func(), err error) {
	conn, err := pgx.ConnectConfig(ctx, s.pool.Config().ConnConfig.Copy())
	if err != nil {
		return e, nil, statedb.Explain(err)
	}
	end := func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		_ = conn.Close(closing)
	}
	defer func() {
		if err != nil {
			end()
		}
	}()
	for _, lock := range []struct{ key, what string }{
		{"migrator leader keep " + migration, "a daemon leads " + migration + ": stop it, or take the migration's file from its command line"},
		{"migrator job backfill " + migration, "a backfill of " + migration + " is running"},
		{"migrator job reconcile " + migration, "a reconcile run of " + migration + " is running"},
		{"migrator job drill " + migration, "a drill of " + migration + " is running"},
	} {
		got := false
		if err := conn.QueryRow(ctx, `SELECT pg_try_advisory_lock(hashtextextended($1, 0))`, lock.key).Scan(&got); err != nil {
			return e, nil, statedb.Explain(err)
		}
		if !got {
			return e, nil, &InUseError{hint.Errorf(hint.Hint{Do: hint.Retry, Text: "once it has ended"}, "%s", lock.what)}
		}
	}
	// With the row alone: an instance has joined before, or finds the mark.
	err = s.exclusive(ctx, migration, func(tx pgx.Tx) (err error) {
		if e, err = readSnapshot(ctx, tx, migration); err != nil {
			return err
		}
		if err := Forgettable(e); err != nil {
			return &InUseError{err}
		}
		_, err = tx.Exec(ctx, `SELECT migrator.begin_forget($1)`, migration)
		return err
	})
	if err == nil {
		failpoint.Here("state.forget.begun")
	}
	return e, end, err
}

// NoteForgetEra notes legacy's era, before legacy forgets it.
func (s *Store) NoteForgetEra(ctx context.Context, migration string, era uint32) error {
	return s.exclusive(ctx, migration, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `SELECT migrator.note_forget_era($1, $2)`, migration, int64(era))
		return err
	})
}

// Forget deletes what the state has of a migration, but for its history, to which it adds the last
// entry.
func (s *Store) Forget(ctx context.Context, migration, reason string, removed any) error {
	err := s.exclusive(ctx, migration, func(tx pgx.Tx) error {
		var begun bool
		if err := tx.QueryRow(ctx, `SELECT forgetting_at IS NOT NULL FROM migrator.migrations WHERE name = $1`, migration).Scan(&begun); err != nil {
			return err
		}
		if !begun {
			return errors.New("the migration is not being forgotten")
		}
		doc, err := json.Marshal(removed)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `SELECT migrator.forget($1, $2, $3::jsonb)`, migration, statedb.CleanText(reason), string(doc))
		return err
	})
	if err == nil {
		failpoint.Here("state.forget.committed")
	}
	return err
}

// Forgotten returns when a migration that the state does not have was forgotten; zero: it was not.
func (s *Store) Forgotten(ctx context.Context, migration string) (at time.Time, err error) {
	err = s.pool.QueryRow(ctx, `SELECT forgotten_at FROM migrator.forgotten
		WHERE migration = $1 AND NOT EXISTS (SELECT FROM migrator.migrations WHERE name = $1) ORDER BY id DESC LIMIT 1`, migration).Scan(&at)
	if errors.Is(err, pgx.ErrNoRows) {
		return at, nil
	}
	return at, statedb.Explain(err)
}

// ForgottenEra is the highest era of legacy that forgotten migrations had: records of the target may
// have versions of it.
func (s *Store) ForgottenEra(ctx context.Context) (era uint32, err error) {
	var n int64
	err = s.pool.QueryRow(ctx, `SELECT coalesce(max(era), 0) FROM migrator.forgotten`).Scan(&n)
	return uint32(n), statedb.Explain(err)
}

// EraBefore is the highest era of the migrations that were forgotten before this one was created: its own is
// above. 0: there is none.
func (s *Store) EraBefore(ctx context.Context, migration string) (era uint32, err error) {
	var n int64
	err = s.pool.QueryRow(ctx, `SELECT coalesce(max(f.era), 0) FROM migrator.forgotten f
		WHERE f.forgotten_at < (SELECT max(h.at) FROM migrator.history h WHERE h.migration = $1 AND h.cause = 'created')`, migration).Scan(&n)
	return uint32(n), statedb.Explain(err)
}

// ErrUnknownMigration is wrapped by errors of a migration that the state does not have.
var ErrUnknownMigration = statedb.ErrUnknownMigration
