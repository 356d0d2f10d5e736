package state_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/runbook"
	"github.com/stranglerfig/migrator/state"
)

func approvalBook(t *testing.T) *runbook.Runbook {
	t.Helper()
	r, err := runbook.Parse("test.md", []byte("---\nname: test\ntitle: A test\n---\n\n```text {#go .approve two_people=true}\nShall we?\n```\n"), nil)
	must(t, err)
	return r
}

// TestOnlyDecisionMakersApproveARunbooksStep: in the database, whatever the client is.
func TestOnlyDecisionMakersApproveARunbooksStep(t *testing.T) {
	t.Parallel()
	o := newOffice(t, `"for": ["cutover"]`)
	book := approvalBook(t)
	begun := func(two bool) (*state.Runbooks, state.RunbookRun) {
		runs := o.asAnn.Runbooks(migration)
		run, err := runs.Begin(t.Context(), book, "")
		must(t, err)
		log, err := runs.Take(t.Context(), run.ID)
		must(t, err)
		defer log.Release()
		_, err = log.Intend(t.Context(), runbook.Record{Step: "go", Direction: runbook.Forward, Attempt: 1, Kind: runbook.Approve, Block: "go", TwoPeople: two})
		must(t, err)
		return runs, run
	}
	_, run := begun(true)
	var people *state.PeopleError
	for name, as := range map[string]*state.Store{"no member": o.asMa, "who began it": o.asAnn} {
		if _, err := as.Runbooks(migration).Word(t.Context(), run.ID, "go", runbook.Done, "yes"); !errors.As(err, &people) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := o.asMa.Runbooks(migration).Word(t.Context(), run.ID, "go", runbook.Failed, "no"); !errors.As(err, &people) {
		t.Errorf("rejected by nobody: %v", err)
	}
	r, err := o.asBob.Runbooks(migration).Word(t.Context(), run.ID, "go", runbook.Done, "yes")
	must(t, err)
	if r.EndedBy != o.bob || r.Actor != o.ann || r.Outcome != runbook.Done || r.Detail.Reason != "yes" {
		t.Errorf("%+v", r)
	}
	_, run = begun(false)
	_, err = o.asAnn.Runbooks(migration).Word(t.Context(), run.ID, "go", runbook.Done, "")
	must(t, err)

	for _, tampering := range []string{
		`UPDATE migrator.runbook_steps SET outcome = 'failed'`,
		`UPDATE migrator.runbook_steps SET intent = '{}'`,
		`DELETE FROM migrator.runbook_steps`,
		`UPDATE migrator.runbook_runs SET actor = 'somebody else'`,
		`UPDATE migrator.runbook_runs SET source = 'without an approval'`,
		`DELETE FROM migrator.runbook_runs`,
	} {
		if _, err := o.asMa.Pool().Exec(t.Context(), tampering); err == nil {
			t.Errorf("%s went through", tampering)
		}
	}
	want := []string{o.ann, o.bob, o.deciders} // a role that may log in can speak for itself
	slices.Sort(want)
	if names, err := o.Members(t.Context(), o.deciders); err != nil || !slices.Equal(names, want) {
		t.Errorf("%v, %v, want %v", names, err, want)
	}
}

func TestTheGateLooksAtTheNewestVerification(t *testing.T) {
	t.Parallel()
	s, _ := open(t)
	newest := func() *phases.RunbookEvidence {
		e, err := s.Evidence(t.Context(), migration)
		must(t, err)
		return e.Runbook
	}
	if v := newest(); v != nil {
		t.Errorf("%+v", v)
	}
	runs := s.Runbooks(migration)
	for _, c := range []struct {
		name         string
		passed, want bool
	}{{"rollback", true, true}, {"cutover", false, true}, {"rollback", false, false}, {"rollback", true, true}} {
		_, err := runs.Verified(t.Context(), c.name, "text", c.passed, []record.Check{{Name: "a", Result: record.Good}})
		must(t, err)
		if v := newest(); v == nil || v.Passed != c.want || v.ConfigHash != "h1" || v.Runbook != "rollback" || v.SourceHash != state.HashSource("text") {
			t.Errorf("after %+v: %+v", c, v)
		}
	}
	if _, err := s.Runbooks("nope").Verified(t.Context(), "rollback", "", true, nil); !errors.Is(err, state.ErrUnknownMigration) {
		t.Errorf("%v", err)
	}
}
