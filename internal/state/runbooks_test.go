package state_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/state/runbooks"
	"github.com/stranglerfig/migrator/internal/statedb"
	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/runbook"
	"github.com/stranglerfig/migrator/store"
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
	begun := func(two bool) (*runbooks.Runs, runbooks.Run) {
		runs := runbooks.New(o.asAnn.Pool(), testMigration)
		run, err := runs.Begin(t.Context(), book, "", true)
		must(t, err)
		log, err := runs.Take(t.Context(), run.ID)
		must(t, err)
		defer log.Release()
		_, err = log.Intend(t.Context(), runbook.Record{Step: "go", Direction: runbook.Forward, Attempt: 1, Kind: runbook.Approve, Block: "go", TwoPeople: two})
		must(t, err)
		return runs, run
	}
	_, run := begun(true)
	var people *statedb.NotAllowedError
	for name, as := range map[string]*state.Store{"no member": o.asMa, "who began it": o.asAnn} {
		if _, err := runbooks.New(as.Pool(), testMigration).Decide(t.Context(), run.ID, "go", runbook.Done, "yes"); !errors.As(err, &people) {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err := runbooks.New(o.asAnn.Pool(), testMigration).Decide(t.Context(), run.ID, "go", runbook.Done, "yes")
	if h, _ := hint.Of(err); !strings.Contains(err.Error(), "step go needs two people: "+o.ann+" began the run") || h.Do != "" || h.Text != "migrator runbook approve, as another person" {
		t.Errorf("%v, hint %+v", err, h)
	}
	if _, err := runbooks.New(o.asMa.Pool(), testMigration).Decide(t.Context(), run.ID, "go", runbook.Failed, "no"); !errors.As(err, &people) {
		t.Errorf("rejected by a user who is no member: %v", err)
	}
	r, err := runbooks.New(o.asBob.Pool(), testMigration).Decide(t.Context(), run.ID, "go", runbook.Done, "yes")
	must(t, err)
	if r.EndedBy != o.bob || r.Actor != o.ann || r.Outcome != runbook.Done || r.Detail.Reason != "yes" {
		t.Errorf("%+v", r)
	}
	_, run = begun(false)
	_, err = runbooks.New(o.asAnn.Pool(), testMigration).Decide(t.Context(), run.ID, "go", runbook.Done, "")
	must(t, err)

	for _, tampering := range []string{
		`UPDATE migrator.runbook_steps SET outcome = 'failed'`,
		`UPDATE migrator.runbook_steps SET intent = '{}'`,
		`DELETE FROM migrator.runbook_steps`,
		`UPDATE migrator.runbook_runs SET actor = 'another'`,
		`UPDATE migrator.runbook_runs SET source = 'without an approval'`,
		`DELETE FROM migrator.runbook_runs`,
	} {
		if _, err := o.asMa.Pool().Exec(t.Context(), tampering); err == nil {
			t.Errorf("%s went through", tampering)
		}
	}
	want := []string{o.ann, o.bob, o.deciders} // a role that may log in can approve itself
	slices.Sort(want)
	if names, err := o.Members(t.Context(), o.deciders); err != nil || !slices.Equal(names, want) {
		t.Errorf("%v, %v, want %v", names, err, want)
	}
}

// TestOneOfConcurrentRunsBegins, however many there are: the others' errors name it.
func TestOneOfConcurrentRunsBegins(t *testing.T) {
	t.Parallel()
	s, _ := open(t)
	book := approvalBook(t)
	runs := runbooks.New(s.Pool(), testMigration)
	// Each insert waits at a gate, which the test keeps closed until all calls have come as
	// far as they can.
	exec(t, s, `CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN PERFORM pg_advisory_xact_lock_shared(42); RETURN NEW; END $$;
		CREATE TRIGGER hold BEFORE INSERT ON migrator.runbook_runs FOR EACH ROW EXECUTE FUNCTION hold()`)
	gate, err := s.Pool().Begin(t.Context())
	must(t, err)
	_, err = gate.Exec(t.Context(), `SELECT pg_advisory_xact_lock(42)`)
	must(t, err)
	const at = 2
	var group errgroup.Group
	var begun atomic.Int64
	for range at {
		group.Go(func() error {
			run, err := runs.Begin(t.Context(), book, "", false)
			var open *runbooks.UnfinishedError
			switch {
			case err == nil && run.Status == runbook.Running:
				begun.Add(1)
			case !errors.As(err, &open) || open.Run.Runbook != "test" || open.Run.ID == 0:
				return fmt.Errorf("%+v: %w", run, err)
			}
			return nil
		})
	}
	testenv.Await(t, "all are waiting", func() bool {
		return value[int64](t, s, `SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
			AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`) == at
	})
	must(t, gate.Rollback(t.Context()))
	must(t, group.Wait())
	if n := begun.Load(); n != 1 {
		t.Fatalf("%d have begun", n)
	}
	_, err = runs.Begin(t.Context(), book, "", true)
	must(t, err)
	list, err := runs.List(t.Context(), 10)
	must(t, err)
	if len(list) != 2 {
		t.Errorf("%+v", list)
	}
	for _, run := range list {
		log, err := runs.Take(t.Context(), run.ID)
		must(t, err)
		must(t, log.Mark(t.Context(), runbook.RunDone))
		log.Release()
	}
	if run, err := runs.Begin(t.Context(), book, "/x", false); err != nil || run.Path != "/x" || run.Source == "" || run.UID == "" || run.Began.IsZero() {
		t.Errorf("after both have ended: %+v, %v", run, err)
	}
	if _, err := runbooks.New(s.Pool(), "nope").Begin(t.Context(), book, "", false); !errors.Is(err, statedb.ErrUnknownMigration) {
		t.Error(err)
	}
}

func TestTheGateReadsTheNewestVerification(t *testing.T) {
	t.Parallel()
	s, _ := open(t)
	newest := func() *phases.VerificationResult {
		e, err := s.Snapshot(t.Context(), testMigration)
		must(t, err)
		return e.Runbook
	}
	if v := newest(); v != nil {
		t.Errorf("%+v", v)
	}
	runs := runbooks.New(s.Pool(), testMigration)
	for _, c := range []struct {
		name         string
		passed, want bool
	}{{"rollback", true, true}, {"cutover", false, true}, {"rollback", false, false}, {"rollback", true, true}} {
		_, err := runs.Verified(t.Context(), c.name, "text", c.passed, []store.Check{{Name: "a", Result: store.Good}})
		must(t, err)
		if v := newest(); v == nil || v.Passed != c.want || v.ConfigHash != "h1" || v.Runbook != "rollback" || v.SourceHash != runbooks.HashSource("text") {
			t.Errorf("after %+v: %+v", c, v)
		}
	}
	if _, err := runbooks.New(s.Pool(), "nope").Verified(t.Context(), "rollback", "", true, nil); !errors.Is(err, statedb.ErrUnknownMigration) {
		t.Errorf("%v", err)
	}
}
