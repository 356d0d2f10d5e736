package state

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/internal/failpoint"
	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/humanize"
	"github.com/stranglerfig/migrator/internal/statedb"
	"github.com/stranglerfig/migrator/phases"
)

// MovedError refuses a move because the migration is no longer on the route that the move
// was decided on.
type MovedError struct {
	Migration string
	Decided   phases.Route // the route that the move was to start from
	Present   phases.Route
	By        string // the actor of the move that came first
	At        time.Time
	Cause     phases.Cause
	Reason    string
}

func (e *MovedError) Error() string {
	s := fmt.Sprintf("%s is no longer at %s (epoch %d): %s moved it to %s (epoch %d) at %s by %s",
		e.Migration, e.Decided, e.Decided.Epoch, e.By, e.Present, e.Present.Epoch, e.At.UTC().Format(time.RFC3339), e.Cause)
	if e.Reason != "" {
		s += ", " + e.Reason
	}
	return s
}

// Hint implements hint.Hinter.
func (e *MovedError) Hint() hint.Hint { return hint.Hint{Do: hint.Status} }

// Transition decides and commits one move in one transaction that has the migration's
// row exclusively: of concurrent ones, each decides on the route that the former left.
// decide must be quick and must not use the Store; its error is returned and nothing
// changes. Whatever decide returns, Transition refuses a move with *MovedError if its From
// is not the present route (a From without epoch is not compared), and with
// *phases.RouteConflictError if an instance may still be on an incompatible route.
// *statedb.NotAllowedError if the database's session_user may not take the step alone.
//
// A move by phases.CauseTrigger is an automatic rollback: its Latch, which names an
// evaluation that Record has stored, is set in the same transaction.
func (s *Store) Transition(ctx context.Context, migration string, decide func(phases.Snapshot) (phases.Move, error)) (st phases.Status, err error) {
	err = s.exclusive(ctx, migration, func(tx pgx.Tx) error {
		// Read under the lock: no instance joins, acknowledges or journals until the move is
		// committed or refused.
		e, err := readSnapshot(ctx, tx, migration)
		if err != nil {
			return err
		}
		move, err := decide(e)
		if err != nil {
			return err
		}
		// After decide, whatever it returns: no caller can commit what these checks refuse.
		if err := admit(ctx, tx, e, move); err != nil {
			return err
		}
		if err := commit(ctx, tx, e, move); err != nil {
			return err
		}
		st, err = statedb.ReadStatus(ctx, tx, migration)
		return err
	})
	if err != nil {
		return phases.Status{}, err
	}
	failpoint.Here("state.transition.committed")
	s.markSettled(ctx, migration)
	return st, nil
}

// admit makes the checks that no override skips.
func admit(ctx context.Context, tx pgx.Tx, e phases.Snapshot, move phases.Move) error {
	from := e.Status.Route
	// [one-decides]: compare-and-set on the route with its epoch. A controller that resumes late
	// finds another epoch and changes nothing.
	if move.From.Epoch != 0 && move.From != from {
		return moved(ctx, tx, e.Status, move.From)
	}
	if move.Reclaim {
		// [reclaim-leases], [loss-held]: a reclaim is no legal move; it has rules of its own.
		return phases.Reclaimable(move.To, e)
	}
	// [loss-blocks]: in addition to the gate, for a caller that passes no gates. A move from retain
	// to returning is refused too: the return journal may lack keys, and only reclaim scans the
	// target for them.
	if lost := e.Status.StateLoss; lost != nil && (phases.Forward(from, move.To) || move.To.Phase == phases.Returning) {
		return hint.With(errors.New(lost.Describe(from)), phases.StateLossHint())
	}
	// [lift-replayed]: whatever command it is: legacy would serve without the writes of retain.
	if move.To.Phase == phases.Grace && from.Phase.Passing() && max(e.Status.ReturnKeys, e.Status.ReturnRest) > 0 {
		return hint.Errorf(hint.Hint{Do: hint.Rollback}, "the return journal still has %s, of which legacy lacks %d", humanize.Counted(e.Status.ReturnKeys, "key"), e.Status.ReturnRest)
	}
	// [held-routes], [no-skip]: whatever the gates' verdicts, also for a rollback.
	if err := phases.Legal(from, move.To, e.Fleet.LiveRoutes); err != nil {
		var conflict *phases.RouteConflictError
		if lost := e.Status.StateLoss; lost != nil && errors.As(err, &conflict) && conflict.Live.Epoch > from.Epoch {
			// Waiting does not help: the instance can't follow before the reclaim.
			return hint.Errorf(phases.StateLossHint(), "%s; %s must not run beside it", lost.Describe(from), move.To)
		}
		return err
	}
	// [lapsed-blocks]: a process whose lease expired may still write under its old route. A
	// rollback does not wait for it.
	if phases.Forward(from, move.To) && len(e.Fleet.Lapsed) > 0 {
		return hint.Errorf(phases.EvictHint(e.Fleet.Lapsed[0]), "the lease of %s expired and the instance did not leave: it blocks moves forward", e.Fleet.Lapsed[0])
	}
	// [join-described]: no instance that joined in legacy, whatever it moves, goes on to write the target.
	if phases.Forward(from, move.To) && len(e.Fleet.Other) > 0 {
		return hint.Errorf(hint.Hint{Do: hint.FleetList, Text: "and restart it"}, "%s moves something else than what is applied: it blocks moves forward", e.Fleet.Other[0])
	}
	if err := latchable(ctx, tx, e.Status.Migration, move); err != nil {
		return err
	}
	for _, g := range move.Gates {
		if g.Overridden != "" && strings.TrimSpace(g.Overridden) == "" {
			return fmt.Errorf("%s is overridden without a reason", g.Gate)
		}
		// [journal-empty], [backfill-done], [unclean-mark], [loss-blocks]: whatever decide
		// returned, no override opens an interlock.
		if g.Interlock && !g.Open() {
			return fmt.Errorf("the interlock %s blocks the move: %s", g.Gate, g.Detail)
		}
	}
	// [fence-attempt]: the fence of an attempt recorded in grace may be raised already. Any other
	// move out of grace would lead to a route that writes legacy behind a fence that no command
	// lifts.
	if from.Phase == phases.Grace && e.Status.Attempt != "" && !move.To.Phase.Passing() {
		return hint.Errorf(hint.Hint{Do: hint.RollbackToGrace}, "a fence may stand on legacy (attempt %s): it must be passed or lifted first", e.Status.Attempt)
	}
	return nil
}

func moved(ctx context.Context, tx pgx.Tx, st phases.Status, decided phases.Route) error {
	e := &MovedError{Migration: st.Migration, Decided: decided, Present: st.Route, By: "unknown"}
	rows, err := tx.Query(ctx, `SELECT `+EntryColumns+` FROM migrator.history
		WHERE migration = $1 AND to_epoch = $2 ORDER BY seq LIMIT 1`, st.Migration, st.Route.Epoch)
	if err != nil {
		return err
	}
	entry, err := pgx.CollectOneRow(rows, ScanEntry)
	if err != nil {
		return err
	}
	e.By, e.At, e.Cause, e.Reason = entry.Actor, entry.At, entry.Cause, entry.Reason
	return e
}

func commit(ctx context.Context, tx pgx.Tx, e phases.Snapshot, move phases.Move) error {
	doc, err := json.Marshal(struct {
		phases.Snapshot
		Gates []phases.GateResult `json:"gates,omitempty"`
		Fired *phases.Latch       `json:"fired,omitempty"`
	}{e, move.Gates, move.Latch})
	if err != nil {
		return err
	}
	// schema.sql has the function as it is now. It refuses what the rules of authority refuse, whatever
	// was decided here.
	// [loss-epoch]: its epoch is one above all rows of epochs, those included that were only
	// reported. [one-decides]: it refuses if the epoch is no longer the one that was read.
	_, err = tx.Exec(ctx, `SELECT migrator.transition($1, $2, $3, $4, $5, $6, $7::jsonb, $8, $9, $10, $11, $12, $13, $14)`,
		e.Status.Migration, e.Status.Route.Epoch, string(move.To.Phase), int32(move.To.Percent),
		string(move.Cause), statedb.CleanText(move.Reason), string(doc), move.Attempt, int64(move.FenceEra), int64(move.FirstFenceEra),
		e.Status.ReturnKeys, move.AcceptMissing, move.SetAside, move.Reclaim)
	return err
}

// ForgetAttempt deletes the record of an attempt whose fence was never raised and never
// will be. It does nothing if the attempt is not recorded, or the route no longer grace.
func (s *Store) ForgetAttempt(ctx context.Context, migration, attempt, reason string) error {
	return s.exclusive(ctx, migration, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `SELECT migrator.give_up_attempt($1, $2, $3)`, migration, attempt, statedb.CleanText(reason))
		return err
	})
}

// Intend records the attempt of a fence before the fence is raised, so that a later
// command knows that it may be. decide gets the snapshot as the transaction reads it, with
// the migration's row locked exclusively; its error is returned and nothing is recorded.
// *MovedError if the route is no longer at; an error if another attempt is recorded.
func (s *Store) Intend(ctx context.Context, migration string, at phases.Route, attempt string, decide func(phases.Snapshot) error) error {
	if attempt == "" {
		return fmt.Errorf("an attempt of a fence needs an id")
	}
	return s.exclusive(ctx, migration, func(tx pgx.Tx) error {
		e, err := readSnapshot(ctx, tx, migration)
		switch st := e.Status; {
		case err != nil:
			return err
		// [fence-attempt], [one-decides]: compare-and-set on the route, its epoch, and the absence
		// of another attempt.
		case st.Route != at:
			return moved(ctx, tx, st, at)
		case st.Attempt == attempt:
			return nil
		case st.Attempt != "":
			return hint.Errorf(hint.Hint{Do: hint.Status}, "another attempt to fence legacy is under way (%s)", st.Attempt)
		}
		if err := decide(e); err != nil {
			return err
		}
		// [fence-attempt]: durable before legacy is touched: after a crash, the next command finds
		// the attempt and lifts or resumes its fence.
		_, err = tx.Exec(ctx, `SELECT migrator.intend($1, $2, $3)`, migration, at.Epoch, attempt)
		return err
	})
}
