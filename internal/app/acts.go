package app

import (
	"context"
	"strings"
	"time"

	"github.com/stranglerfig/migrator/internal/control"
	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/phases"
)

// Verb is what a person does to a migration.
type Verb string

// The verbs.
const (
	VerbAdvance     Verb = "advance"
	VerbApprove     Verb = "approve"
	VerbPause       Verb = "pause"
	VerbResume      Verb = "resume"
	VerbAcknowledge Verb = "acknowledge"
	VerbRollback    Verb = "rollback"
)

// Act is a verb with what a person has said of it. The commands that have more options call what it calls.
type Act struct {
	Verb      Verb
	Migration string
	Reason    string
	To        phases.Phase // of rollback: ""; see phases.RollbackTarget
	// Seen is the epoch that the person has seen: in another one the act is refused, since it would do something else.
	// 0: any.
	Seen   int64
	DryRun bool         // do all of it, and change nothing
	Report func(string) // progress; nil: none
	// File is the migration file at hand, read from Path: a step that touches the stores needs it. nil: there is none.
	File *migration.Config
	Path string
}

// Acted is what an act did, or would do.
type Acted struct {
	From     phases.Route        // where the migration was
	To       phases.Route        // where it is, or would be
	Gates    []phases.GateResult // of an advance
	Moves    []phases.Route      // of a rollback
	Approval *phases.Approval
}

// Do does it. What it returns beside an error was done, or found, before that.
func (a Act) Do(ctx context.Context, st *state.Store) (did Acted, err error) {
	if a.DryRun {
		ctx = state.DryRun(ctx)
	}
	switch a.Verb {
	case VerbAdvance, VerbRollback:
		return a.move(ctx, st)
	case VerbApprove, VerbPause, VerbResume, VerbAcknowledge:
	default:
		return did, refuse("%q is no verb", a.Verb)
	}
	status, err := st.Status(ctx, a.Migration)
	if err == nil {
		did.From, did.To = status.Route, status.Route
		err = a.checkSeen(status.Route)
	}
	if err != nil {
		return did, err
	}
	reason := a.Reason
	if a.DryRun && strings.TrimSpace(reason) == "" {
		reason = "not given yet" // what demands one is refused for other reasons too
	}
	switch a.Verb {
	case VerbPause:
		err = st.Pause(ctx, a.Migration, reason)
	case VerbResume:
		err = st.Resume(ctx, a.Migration, a.Reason)
	case VerbAcknowledge:
		err = st.Acknowledge(ctx, a.Migration, reason)
	case VerbApprove:
		var approval phases.Approval
		if approval, err = Approve(ctx, st, a.Migration, a.To, a.Reason); err == nil {
			did.Approval = &approval
		}
	}
	return did, err
}

func (a Act) checkSeen(at phases.Route) error {
	if a.Seen != 0 && a.Seen != at.Epoch {
		return notYetHint(hint.Hint{Do: hint.Retry, Text: "after a look at where it is"}, "%s has moved since this was asked: it is at %s (epoch %d, not %d)", a.Migration, at, at.Epoch, a.Seen)
	}
	return nil
}

// move advances or rolls back.
func (a Act) move(ctx context.Context, st *state.Store) (did Acted, err error) {
	// Before the stores are opened: a rehearsal of a return loads legacy, and a return writes it, with the URLs of this
	// process.
	who, may, err := st.MayOperate(ctx, a.Migration)
	if err == nil && !may {
		err = refuseHint(hint.Hint{Do: hint.GrantOperator, Of: []string{who}}, "the role %s has no grant of the kind operator for %s", who, a.Migration)
	}
	if err != nil {
		return did, err
	}
	forward := a.Verb == VerbAdvance
	m, err := OpenMoves(ctx, st, a.Migration, a.File, a.Path, forward, a.Report)
	if h, _ := hint.Of(err); a.File == nil && h.Do == hint.SetMigrationFile {
		// Who asks can't name a file: the process that was asked should have it.
		return did, notYetHint(hint.Hint{Do: hint.Serve, Text: "with the migration's file, and ask that daemon"}, "this step touches both stores, and the daemon that was asked does not serve the migration's file, which has their URLs")
	}
	if err != nil {
		return did, err
	}
	defer m.Close()
	m.DryRun = a.DryRun
	did.From = m.Snapshot.Status.Route
	did.To = did.From
	if err := a.checkSeen(did.From); err != nil {
		return did, err
	}
	if forward {
		step, err := Advance(ctx, m, control.Advance{To: a.To, Reason: a.Reason, DryRun: a.DryRun}, phases.Settle)
		did.Gates = step.Gates
		if step.To != (phases.Route{}) {
			did.To = step.To
		}
		return did, err
	}
	did.Moves, err = m.Rollback(ctx, control.Rollback{To: a.To, Reason: a.Reason})
	if n := len(did.Moves); n > 0 {
		did.To = did.Moves[n-1]
	}
	return did, err
}

// Advance takes the step that follows the snapshot of the moves, and waits until the fleet has settled on it.
func Advance(ctx context.Context, m *Moves, a control.Advance, settle time.Duration) (control.Step, error) {
	a.Read = &m.Snapshot
	step, err := m.Advance(ctx, a)
	if err == nil && (step.Done || step.Already()) {
		err = m.AwaitSettled(ctx, settle)
	}
	return step, err
}

// Approve approves the next step into a phase, "" being the next one; or what a reclaim enters.
func Approve(ctx context.Context, st *state.Store, name string, phase phases.Phase, reason string) (phases.Approval, error) {
	status, err := st.Status(ctx, name)
	if err != nil {
		return phases.Approval{}, err
	}
	m, err := Applied(ctx, st, name)
	if err != nil {
		return phases.Approval{}, err
	}
	// A reclaim of a state that was restored passes phases: into grace, and if it is given up into retain.
	at := status.Route.Phase
	passes := phase == phases.Grace && at.Position() < phases.Grace.Position() || phase == phases.Retain && at == phases.Returning
	if !passes {
		next, err := m.Phases.Next(status.Route)
		if err != nil {
			return phases.Approval{}, err
		}
		if phase == "" {
			phase = next.Phase
		}
		if phase != next.Phase {
			return phases.Approval{}, refuseHint(hint.Hint{Do: hint.Status}, "the next step from %s is %s: %s can't be approved yet", status.Route, next, phase)
		}
	}
	return st.Approve(ctx, name, phase, m.Phases.Approval.Role, time.Duration(m.Phases.Approval.Expires), reason)
}
