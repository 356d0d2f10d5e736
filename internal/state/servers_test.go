package state_test

import (
	"strings"
	"testing"

	"github.com/stranglerfig/migrator/phases"
)

// TestAnotherServerOfTheState: until it is noted, and from then on until a full reconcile is clean,
// every migration is unclean; where the target has authority, its keys are not known.
func TestAnotherServerOfTheState(t *testing.T) {
	t.Parallel()
	s, _ := open(t)
	for _, name := range []string{"one", "two"} {
		a := applied()
		a.Migration = name
		_, _, err := s.Apply(t.Context(), a)
		must(t, err)
	}
	if changed, err := s.NoteServer(t.Context()); err != nil || changed != "" {
		t.Fatalf("%q, %v: the server is the one on which the schema was made", changed, err)
	}
	exec(t, s, `UPDATE migrator.migrations SET phase = 'retain', epoch = epoch + 1 WHERE name = 'two'`)
	exec(t, s, `UPDATE migrator.servers SET server = 'system 7, timeline 3'`)
	look := func(name string) phases.Status {
		st, err := s.Status(t.Context(), name)
		must(t, err)
		return st
	}
	check := func(when string) {
		for _, name := range []string{"one", "two"} {
			st := look(name)
			if !strings.Contains(st.Unclean, "timeline 3 before") || st.Dirty.IsZero() || st.ReturnJournalLost != (name == "two") {
				t.Errorf("%s: %s: %+v", when, name, st)
			}
		}
	}
	check("before it is noted")
	if changed, err := s.NoteServer(t.Context()); err != nil || !strings.HasPrefix(changed, "system 7, timeline 3 before, system ") {
		t.Fatalf("%q, %v", changed, err)
	}
	check("noted")
	if last := look("one"); last.LastCause != string(phases.CauseLoss) {
		t.Errorf("the history ends with %s: %s", last.LastCause, last.LastReason)
	}
	before := look("one").Dirty
	if changed, err := s.NoteServer(t.Context()); err != nil || changed != "" || !look("one").Dirty.Equal(before) {
		t.Errorf("noted twice: %q, %v", changed, err)
	}
}

// TestAServerThatWasNotComparedIsNotNoted: a second failover, after the marks, is to a server that
// lacks them.
func TestAServerThatWasNotComparedIsNotNoted(t *testing.T) {
	t.Parallel()
	s, _ := open(t)
	_, _, err := s.Apply(t.Context(), applied())
	must(t, err)
	exec(t, s, `UPDATE migrator.servers SET server = 'system 7, timeline 3'`)
	// While the migration is marked, the newest server that is noted becomes another one.
	exec(t, s, `CREATE FUNCTION failover() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		UPDATE migrator.servers SET server = 'system 7, timeline 4'; RETURN NEW; END $$`)
	exec(t, s, `CREATE TRIGGER failover AFTER UPDATE OF unclean_at ON migrator.migrations FOR EACH ROW EXECUTE FUNCTION failover()`)
	if changed, err := s.NoteServer(t.Context()); err != nil || !strings.HasPrefix(changed, "system 7, timeline 3 before") {
		t.Fatalf("%q, %v", changed, err)
	}
	exec(t, s, `DROP TRIGGER failover ON migrator.migrations`)
	if changed, err := s.NoteServer(t.Context()); err != nil || !strings.HasPrefix(changed, "system 7, timeline 4 before") {
		t.Errorf("the server was noted without the marks: %q, %v", changed, err)
	}
}
