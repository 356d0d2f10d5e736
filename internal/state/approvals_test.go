package state_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/dual/pgfleet"
	"github.com/stranglerfig/migrator/dual/telemetry"
	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/state/outbox"
	"github.com/stranglerfig/migrator/internal/statedb"
	"github.com/stranglerfig/migrator/phases"
)

// office is a migration whose decision makers are the members of a role, with operators who
// connect as separate users.
type office struct {
	*state.Store
	t                  *testing.T
	url                string
	deciders           string
	ann, bob, mallory  string       // mallory is no decider
	asAnn, asBob, asMa *state.Store // connected as each
}

func newOffice(t *testing.T, approval string) *office {
	t.Helper()
	s, dbURL := open(t)
	o := &office{Store: s, t: t, url: dbURL}
	o.deciders, _ = newRole(t, dbURL)
	for _, p := range []struct {
		name *string
		as   **state.Store
	}{{&o.ann, &o.asAnn}, {&o.bob, &o.asBob}, {&o.mallory, &o.asMa}} {
		role, roleURL := newRole(t, dbURL)
		must(t, s.GrantOperator(t.Context(), role))
		as, err := state.Open(t.Context(), roleURL)
		must(t, err)
		t.Cleanup(as.Close)
		*p.name, *p.as = role, as
	}
	exec(t, s, `GRANT `+o.deciders+` TO `+o.ann+`, `+o.bob)
	a := applied()
	a.Config = []byte(`{"name": "products", "phases": {"approval": {"role": "` + o.deciders + `", ` + approval + `}}}`)
	a.ConfigHash = "h2"
	_, _, err := s.Apply(t.Context(), a)
	must(t, err)
	return o
}

// step moves forward as the store's user, with the gate overridden if a reason is given.
func (o *office) step(as *state.Store, to phases.Route, overridden string) error {
	o.t.Helper()
	_, err := as.Transition(o.t.Context(), testMigration, func(e phases.Snapshot) (phases.Move, error) {
		m := phases.Move{From: e.Status.Route, To: to, Cause: phases.CauseAdvance, Attempt: e.Status.Attempt}
		if to.Phase == phases.Fenced {
			m.Cause, m.Attempt = phases.CauseFence, "a1"
		}
		if overridden != "" {
			m.Gates = []phases.GateResult{{Gate: "soak-time", Verdict: phases.Fail, Overridden: overridden}}
		}
		return m, nil
	})
	return err
}

func (o *office) approve(as *state.Store, to phases.Phase) {
	o.t.Helper()
	_, err := as.Approve(o.t.Context(), testMigration, to, "", time.Hour, "")
	must(o.t, err)
}

func (o *office) refused(what string, err error, words ...string) {
	o.t.Helper()
	var people *statedb.NotAllowedError
	if !errors.As(err, &people) {
		o.t.Errorf("%s: %v", what, err)
		return
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			o.t.Errorf("%s: %v: it does not contain %q", what, err, w)
		}
	}
}

func TestOnlyTheDecisionMakerOverrides(t *testing.T) {
	t.Parallel()
	o := newOffice(t, `"for": ["cutover"]`)
	must(t, o.step(o.asMa, shadowWrite, "")) // an advance needs no decider
	o.refused("mallory overrides", o.step(o.asMa, dualRead, "please"), o.mallory+" is not a member of the role "+o.deciders, "override a gate")
	if err := o.step(o.asAnn, dualRead, " "); err == nil || !strings.Contains(err.Error(), "without a reason") {
		t.Errorf("an override without a reason: %v", err)
	}
	must(t, o.step(o.asAnn, dualRead, "approved in the change request"))
	entries, err := o.History(t.Context(), testMigration, 1)
	must(t, err)
	if e := entries[0]; e.Actor != o.ann || !strings.Contains(string(e.Evidence), "approved in the change request") {
		t.Errorf("%+v", e)
	}
	// Another client than this one can't either.
	_, err = o.asMa.Pool().Exec(t.Context(), `SELECT migrator.transition('products', 3, 'cutover', 500, 'advance', '',
		'{"gates": [{"gate": "soak-time", "verdict": "fail", "overridden": "x"}]}', '', 0, 0, 0, 0, false, false)`)
	if err == nil || !strings.Contains(err.Error(), "not a member") {
		t.Errorf("mallory, by hand: %v", err)
	}
	_, err = o.asMa.Pool().Exec(t.Context(), `INSERT INTO migrator.approvals (migration, to_phase, epoch, config_hash, role, reason, actor, expires_at)
		VALUES ('products', 'cutover', 3, 'h2', '', '', $1, now() + interval '1 day')`, o.ann)
	if err == nil || !strings.Contains(err.Error(), "permission denied") {
		t.Errorf("mallory approves as ann: %v", err)
	}
	for who, want := range map[*state.Store]bool{o.asAnn: true, o.asMa: false} {
		if e, err := who.Snapshot(t.Context(), testMigration); err != nil || e.Decides != want || e.Actor == "" {
			t.Errorf("%s decides: %v, %v", e.Actor, e.Decides, err)
		}
	}
	_, err = o.asMa.Approve(t.Context(), testMigration, phases.Cutover, "", time.Hour, "")
	o.refused("mallory approves", err, "may approve")
	walk(t, o.Store, nil, shadowWrite) // a rollback needs no approval
	must(t, o.asMa.Acknowledge(t.Context(), testMigration, "nothing there"))
}

func TestTwoPeopleTakeAStepThatNeedsTwo(t *testing.T) {
	t.Parallel()
	o := newOffice(t, `"for": ["retain", "complete"], "two_people": ["retain", "complete"]`)
	walk(t, o.Store, nil, shadowWrite, dualRead, cutover, grace)
	complete := phases.Route{Phase: phases.Complete}

	o.refused("no approval", o.step(o.asAnn, fencedRoute, ""), "retain needs two people", "there is no approval of retain")
	if h, _ := hint.Of(o.step(o.asAnn, fencedRoute, "")); h.Do != hint.Approve {
		t.Errorf("no approval: hint %v", h)
	}
	o.approve(o.asAnn, phases.Retain)
	o.refused("ann approves and advances", o.step(o.asAnn, fencedRoute, ""),
		"the approval of retain by "+o.ann+" does not count for a step that "+o.ann+" takes")
	must(t, o.step(o.asBob, fencedRoute, ""))
	must(t, o.step(o.asAnn, retain, "")) // the second half, which any operator may complete

	o.refused("with the words of another phase", o.step(o.asBob, complete, ""), "complete needs two people")
	o.approve(o.asBob, phases.Complete)
	o.refused("by an override", o.step(o.asBob, complete, "I am in a hurry"), "two people")
	none := "there is no approval of complete"
	for what, c := range map[string]struct{ change, want string }{
		"expired":              {`expires_at = '2026-01-02 03:04:05Z'`, "the approval of complete by " + o.bob + " expired at 2026-01-02T03:04:05Z"},
		"of an earlier epoch":  {`epoch = epoch - 1`, none},
		"of other description": {`config_hash = 'h1'`, none},
	} {
		exec(t, o.Store, `ALTER TABLE migrator.approvals DISABLE TRIGGER append_only;
			CREATE TABLE saved AS SELECT * FROM migrator.approvals; UPDATE migrator.approvals SET `+c.change)
		o.refused("an approval "+what, o.step(o.asAnn, complete, ""), "two people", c.want)
		exec(t, o.Store, `UPDATE migrator.approvals a SET expires_at = s.expires_at, epoch = s.epoch, config_hash = s.config_hash FROM saved s WHERE s.id = a.id; DROP TABLE saved`)
	}
	_, err := o.asBob.Pool().Exec(t.Context(), `SELECT migrator.transition('products', 7, 'complete', 0, 'advance', '', '{}', '', 0, 0, 0, 0, false, false)`)
	if err == nil || !strings.Contains(err.Error(), "two people") {
		t.Errorf("bob, by hand: %v", err)
	}
	must(t, o.step(o.asAnn, complete, ""))
	st, err := o.Status(t.Context(), testMigration)
	if err != nil || st.Route.Phase != phases.Complete || st.LastActor != o.ann {
		t.Errorf("%+v, %v", st, err)
	}
}

func TestOnePersonIsEnoughWhereTheMigrationFileAllowsIt(t *testing.T) {
	t.Parallel()
	for _, approval := range []string{`"for": ["complete"]`, `"two_people": ["complete"]`} {
		o := newOffice(t, approval)
		walk(t, o.Store, nil, shadowWrite, dualRead, cutover, grace, fencedRoute, retain)
		if strings.Contains(approval, "for") {
			o.refused("no approval", o.step(o.asAnn, phases.Route{Phase: phases.Complete}, ""), "complete needs an approval: ", "there is no approval of complete")
			o.approve(o.asAnn, phases.Complete)
		}
		must(t, o.step(o.asAnn, phases.Route{Phase: phases.Complete}, ""))
	}
}

func TestAnOperatorsRoleCanDoAllThatAStoreDoes(t *testing.T) {
	t.Parallel()
	o := newOffice(t, `"for": []`)
	s := o.asMa
	must(t, o.step(s, shadowWrite, ""))
	must(t, o.step(s, dualRead, ""))
	must(t, o.step(s, cutover5, ""))
	i := join(t, s, "a", pgfleet.Options{})
	must(t, i.Observe(t.Context(), i.grant.Lease, []telemetry.Window{window("x", 1, 0, 1)}))
	_, err := s.RollUp(t.Context(), testMigration)
	must(t, err)
	fired := recorded(t, s, evaluation(phases.TriggerKind, "errors", phases.Firing))[0].ID
	_, err = rollBack(t, s, "errors", fired)
	must(t, err)
	must(t, s.Acknowledge(t.Context(), testMigration, "seen"))
	must(t, s.Prune(t.Context(), testMigration))
	must(t, outbox.New(s.Pool(), testMigration).Announce(t.Context(), outbox.StepDue, "x", nil))
	messages, err := outbox.New(s.Pool(), testMigration).Claim(t.Context(), 10, time.Minute)
	must(t, err)
	must(t, outbox.New(s.Pool(), testMigration).Delivered(t.Context(), messages[0]))
	must(t, outbox.New(s.Pool(), testMigration).Failed(t.Context(), messages[1], "503"))
	if _, err := s.Observed(t.Context(), testMigration, time.Now().Add(-time.Hour)); err != nil {
		t.Error(err)
	}
	for _, forbidden := range []string{`UPDATE migrator.evaluations SET verdict = 'quiet'`, `UPDATE migrator.history SET reason = ''`} {
		if _, err := s.Pool().Exec(t.Context(), forbidden); err == nil || !strings.Contains(err.Error(), "permission denied") {
			t.Errorf("%s: %v", forbidden, err)
		}
	}
}
