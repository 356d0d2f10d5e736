//go:build unix

package main

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/internal/app"
)

func (o *operator) schedule() (s app.ScheduledTimes) {
	o.t.Helper()
	if err := json.Unmarshal([]byte(o.prints("reconcile schedule -o json")), &s); err != nil {
		o.t.Fatal(err)
	}
	return s
}

// prints is what a command that succeeds prints.
func (o *operator) prints(line string) string {
	o.t.Helper()
	code, stdout, stderr := o.try(strings.Fields(line)...)
	if code != exitDone {
		o.t.Fatalf("%s: %d: %s%s", line, code, stdout, stderr)
	}
	return stdout
}

// TestTimesOfRunsAreListed: without a daemon too, since that is what one wants to see.
func TestTimesOfRunsAreListed(t *testing.T) {
	t.Parallel()
	o := newOperator(t, "items", "  table: items\n", "  key: item:{id}\n", servedRest)
	o.sql(o.legacy, `CREATE TABLE items (id bigint PRIMARY KEY, name text)`)
	o.does("init", "apply")
	if out := o.prints("reconcile schedule"); !strings.Contains(out, "No runs are due: the description of items sets neither") {
		t.Error(out)
	}
	text, err := os.ReadFile(o.path("migration.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	o.write("migration.yaml", string(text)+"reconcile: {schedule: '0 2 * * *', full_schedule: 'CRON_TZ=Europe/Berlin 0 3 * * 0'}\n")
	if out := o.prints("reconcile schedule"); strings.Count(out, "no daemon knows it yet") != 2 {
		t.Error(out)
	}
	s := o.schedule()
	if len(s.Schedules) != 2 || s.Schedules[0].Known || s.Schedules[0].Next.Hour() != 2 || time.Until(s.Schedules[0].Next) > 25*time.Hour || s.Schedules[1].Next.Weekday() != time.Sunday {
		t.Errorf("%+v", s)
	}
	o.sql(o.state, `INSERT INTO migrator.reconcile_schedule (migration, kind, expr, due_at, outcome, detail)
		SELECT 'items', 'sampled', '0 2 * * *', date_trunc('day', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' + i * interval '1 day' + interval '2 hours',
			CASE i WHEN -9 THEN 'set' ELSE 'refused' END, 'another run' FROM unnest(ARRAY[-9, -6, -4]) i`)
	s = o.schedule()
	if d := s.Schedules[0]; !d.Known || d.Last == nil || d.Last.Outcome != "refused" || d.Overdue < 3 || d.Overdue > 4 {
		t.Errorf("%+v", d)
	}
	if len(s.Times) != 2 || s.Times[0].Skipped != 1 || s.Times[1].Skipped != 2 {
		t.Errorf("%+v", s.Times)
	}
	if out := o.prints("reconcile schedule --limit 1"); strings.Count(out, "another run") != 1 {
		t.Error(out)
	}
	if code, _, stderr := o.try("reconcile", "schedule", "-n", "0"); code != exitUsage || !strings.Contains(stderr, "above 0") {
		t.Errorf("%d: %s", code, stderr)
	}
}
