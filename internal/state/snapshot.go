package state

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/internal/statedb"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/phases"
)

// Snapshot reads the input of a decision about the migration, as of one moment.
func (s *Store) Snapshot(ctx context.Context, migration string) (e phases.Snapshot, err error) {
	err = pgx.BeginTxFunc(ctx, s.pool, statedb.RepeatableRead, func(tx pgx.Tx) error {
		e, err = readSnapshot(ctx, tx, migration)
		return err
	})
	return e, statedb.Explain(err)
}

// Open is a Snapshot with the migration file in force, as of the same moment: what a
// command needs that decides about the migration.
func (s *Store) Open(ctx context.Context, migration string) (e phases.Snapshot, a Applied, err error) {
	err = pgx.BeginTxFunc(ctx, s.pool, statedb.RepeatableRead, func(tx pgx.Tx) error {
		if e, err = readSnapshot(ctx, tx, migration); err == nil {
			a, err = readApplied(ctx, tx, migration)
		}
		return err
	})
	return e, a, statedb.Explain(err)
}

// readSnapshot reads the snapshot. The caller's transaction must see one moment
// (repeatable read), or have the migration's row exclusively.
func readSnapshot(ctx context.Context, q statedb.Querier, migration string) (e phases.Snapshot, err error) {
	// All reads see one moment: verdicts on rows of different moments could open a gate that was
	// never open.
	if e.Status, err = statedb.ReadStatus(ctx, q, migration); err != nil {
		return e, err
	}
	if e.Fleet, e.Now, err = fleet(ctx, q, e.Status); err != nil {
		return e, err
	}
	if e.Backfill, err = newestBackfill(ctx, q, migration); err != nil {
		return e, err
	}
	if e.Reconcile, err = newestRun(ctx, q, e.Status, `true`); err != nil {
		return e, err
	}
	if e.FullReconcile, err = newestRun(ctx, q, e.Status, `whole AND two_way`); err != nil {
		return e, err
	}
	if e.FailedReconcile, err = newestRun(ctx, q, e.Status, `differences > 0`); err != nil {
		return e, err
	}
	if e.Approvals, err = approvals(ctx, q, e.Status, e.Now); err != nil {
		return e, err
	}
	if e.Actor, e.Decides, err = decides(ctx, q, migration); err != nil {
		return e, err
	}
	if e.Runbook, err = newestVerification(ctx, q, migration); err != nil {
		return e, err
	}
	if e.Latch, err = latched(ctx, q, migration); err != nil {
		return e, err
	}
	if e.Drill, err = newestDrill(ctx, q, e.Status); err != nil {
		return e, err
	}
	if e.Fault, err = activeFault(ctx, q, e.Status); err != nil {
		return e, err
	}
	look, err := readBypass(ctx, q, migration, e.Status.LegacyEpoch)
	if err != nil {
		return e, err
	}
	if look != nil {
		e.Bypass = &look.Bypass
	}
	if e.Capture, err = readCapture(ctx, q, migration); err != nil {
		return e, err
	}
	e.Evaluations, err = evaluations(ctx, q, migration, EvaluationFilter{Kind: phases.GateKind, Since: e.Now.Add(-evaluationsSince), Newest: true})
	return e, err
}

// evaluationsSince is how far back a snapshot includes evaluations: a gate that is no longer
// in the migration file disappears from it.
const evaluationsSince = 7 * 24 * time.Hour

// fleet summarizes the leases.
//
// LiveRoutes are the routes that instances with live leases may still be on: an instance
// that acknowledged an epoch may have swapped to any later one and not yet reported it.
//
// Of lapsed leases only some routes count. An instance whose lease expired, by a clock
// that it started before the database's, behaves as in dual-read where legacy can answer:
// it reads legacy and writes both stores. Every rollback is safe beside it. From cutover
// and grace to dual-read and on to shadow-write, the routes are compatible with its
// behaviour. Under legacy it is one more reader of legacy, whose writes reach the target
// with their versions, as a backfill's would. So it blocks no rollback.
//
// From fenced to complete it can read only the target, and continues to. Such a route
// counts as live until the instance rejoins or is evicted. Otherwise the instance would
// answer from the target while others, back in dual-read, no longer ensure that the
// target has every write.
//
// A lapsed lease does block every move forward: Transition refuses those, and the gate
// fleet-settled reports it.
func fleet(ctx context.Context, q statedb.Querier, st phases.Status) (f phases.Fleet, now time.Time, err error) {
	leases, now, err := readLeases(ctx, q, st.Migration)
	if err != nil {
		return f, now, err
	}
	present := st.Route.Epoch
	// [loss-held]: without any lease, epochs above the present one still count as live: instances
	// reported them.
	lowest, lowestLapsed := present+1, present+1
	for _, l := range leases {
		if l.Other {
			f.Other = append(f.Other, l.Instance)
		}
		if l.Lapsed {
			f.Lapsed = append(f.Lapsed, l.Instance)
			lowestLapsed = min(lowestLapsed, l.Acknowledged)
			continue
		}
		f.Live++
		if l.Acknowledged < present {
			f.Behind++
		}
		// [held-routes]: from the acknowledged epoch, not the present one, since an instance
		// reports late.
		lowest = min(lowest, l.Acknowledged)
	}
	routes, err := epochsFrom(ctx, q, st.Migration, min(lowest, lowestLapsed))
	if err != nil {
		return f, now, err
	}
	for _, r := range routes {
		// [lapsed-held]: a lapsed lease counts on routes that have no other store to read.
		if r.Epoch >= lowest || r.Epoch >= lowestLapsed && readsTargetAlone(r) {
			f.LiveRoutes = append(f.LiveRoutes, r)
		}
	}
	return f, now, nil
}

// readsTargetAlone reports whether an instance on the route reads the target also after
// its lease has expired.
func readsTargetAlone(r phases.Route) bool { return r.ReadsTarget() && !r.Behaviour().Fallback }

func epochsFrom(ctx context.Context, q statedb.Querier, migration string, lowest int64) ([]phases.Route, error) {
	rows, err := q.Query(ctx, `SELECT phase, percent, epoch FROM migrator.epochs
		WHERE migration = $1 AND epoch >= $2 ORDER BY epoch DESC`, migration, lowest)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, statedb.ScanRoute)
}

func newestBackfill(ctx context.Context, q statedb.Querier, migration string) (*phases.BackfillStatus, error) {
	var b phases.BackfillStatus
	var finished *time.Time
	err := q.QueryRow(ctx, `SELECT epoch, began_at, finished_at FROM migrator.backfills
		WHERE migration = $1 AND `+statedb.BackfillCountsSQL+` ORDER BY id DESC LIMIT 1`, migration).Scan(&b.Epoch, &b.Began, &finished)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	b.Finished = statedb.OrZero(finished)
	return &b, err
}

// newestRun is the newest finished run that meets the condition, a constant of this file.
//
// Its lost writes do not count if an instance ended uncleanly and no clean run came
// between: a write that the instance had begun and not acknowledged has the same effect.
func newestRun(ctx context.Context, q statedb.Querier, st phases.Status, condition string) (*phases.ReconcileResult, error) {
	var r phases.ReconcileResult
	err := q.QueryRow(ctx, `SELECT id, epoch, config_hash, began_at, finished_at, whole, two_way, checked, differences, repaired + journalled, unsettled,
			CASE WHEN $2::timestamptz IS NULL OR EXISTS (SELECT FROM migrator.reconcile_runs c
				WHERE c.migration = r.migration AND c.id < r.id AND c.status = 'done' AND c.whole AND c.two_way
				  AND c.differences = 0 AND c.repaired + c.journalled = 0 AND c.unsettled = 0 AND c.began_at > $2)
			THEN (SELECT count(*) FROM migrator.reconcile_findings f WHERE f.run = r.id AND f.lost) ELSE 0 END
		FROM migrator.reconcile_runs r WHERE migration = $1 AND status = 'done' AND `+condition+` ORDER BY id DESC LIMIT 1`,
		st.Migration, orNull(st.Dirty)).
		Scan(&r.Run, &r.Epoch, &r.ConfigHash, &r.Began, &r.Finished, &r.Full, &r.TwoWay, &r.Checked, &r.Differences, &r.Repaired, &r.Undecided, &r.LostWrites)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	return &r, err
}

// LastClean returns when the newest reconcile run that found no difference finished;
// zero if there is none.
func (s *Store) LastClean(ctx context.Context, migration string) (time.Time, error) {
	run, err := newestRun(ctx, s.pool, phases.Status{Migration: migration}, `differences = 0 AND unsettled = 0`)
	if err != nil || run == nil {
		return time.Time{}, statedb.Explain(err)
	}
	return run.Finished, nil
}

// newestDrill is the newest drill that passed, in whatever environment. A drill that
// rehearsed the same settings as the applied migration file counts as one under that
// file: see migration.Config.DrillHash.
func newestDrill(ctx context.Context, q statedb.Querier, st phases.Status) (*phases.DrillResult, error) {
	rows, err := q.Query(ctx, `SELECT d.config_hash, d.rehearsal, d.finished_at, coalesce(d.fault, ''), m.config::text
		FROM (SELECT DISTINCT ON (fault, rehearsal) * FROM migrator.drills WHERE migration = $1 AND passed ORDER BY fault, rehearsal, finished_at DESC) d
		JOIN migrator.migrations m ON m.name = d.migration
		ORDER BY d.finished_at DESC LIMIT 20`, st.Migration)
	if err != nil {
		return nil, err
	}
	var newest, fits *phases.DrillResult
	var one phases.DrillResult
	var rehearsal, fault, config, applied string
	faults := map[string]time.Time{}
	_, err = pgx.ForEachRow(rows, []any{&one.ConfigHash, &rehearsal, &one.Passed, &fault, &config}, func() error {
		if applied == "" {
			var m migration.Config
			if err := json.Unmarshal([]byte(config), &m); err != nil {
				return nil // then no drill matches, and the gate reports it
			}
			applied = m.DrillHash()
		}
		found := one
		if newest == nil {
			newest = &found
		}
		if fits == nil && rehearsal == applied {
			found.ConfigHash, found.Faults, fits = st.ConfigHash, faults, &found
		}
		if _, newer := faults[fault]; rehearsal == applied && fault != "" && !newer {
			faults[fault] = one.Passed
		}
		return nil
	})
	if fits != nil {
		return fits, err
	}
	return newest, err
}

// newestVerification is that of the runbook rollback, which the gate of a step forward reads.
func newestVerification(ctx context.Context, q statedb.Querier, migration string) (*phases.VerificationResult, error) {
	var v phases.VerificationResult
	err := q.QueryRow(ctx, `SELECT runbook, source_hash, config_hash, passed, at FROM migrator.runbook_verifications
		WHERE migration = $1 AND runbook = 'rollback' ORDER BY id DESC LIMIT 1`, migration).
		Scan(&v.Runbook, &v.SourceHash, &v.ConfigHash, &v.Passed, &v.At)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	return &v, err
}
