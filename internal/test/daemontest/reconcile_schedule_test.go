//go:build unix

package daemontest

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/internal/app"
	"github.com/stranglerfig/migrator/internal/test/clitest"
)

func (o *operator) schedule() (s app.ScheduledTimes) {
	o.T.Helper()
	if err := json.Unmarshal([]byte(o.prints("reconcile schedule -o json")), &s); err != nil {
		o.T.Fatal(err)
	}
	return s
}

// prints is the output of a command that must succeed.
func (o *operator) prints(line string) string {
	o.T.Helper()
	code, stdout, stderr := o.Try(strings.Fields(line)...)
	if code != clitest.Done {
		o.T.Fatalf("%s: %d: %s%s", line, code, stdout, stderr)
	}
	return stdout
}

// TestScheduledTimesAreListed, also without a daemon: an operator checks for that.
func TestScheduledTimesAreListed(t *testing.T) {
	t.Parallel()
	o := newOperator(t, "items", "  table: items\n", "  key: item:{id}\n", clitest.Served)
	o.SQL(o.Legacy, `CREATE TABLE items (id bigint PRIMARY KEY, name text)`)
	o.Does("init", "apply")
	if out := o.prints("reconcile schedule"); !strings.Contains(out, "No runs are due: the migration file of items sets neither") {
		t.Error(out)
	}
	text, err := os.ReadFile(o.Path("migration.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	o.Write("migration.yaml", string(text)+"reconcile: {schedule: '0 2 * * *', full_schedule: 'CRON_TZ=Europe/Berlin 0 3 * * 0'}\n")
	if out := o.prints("reconcile schedule"); strings.Count(out, "no daemon has read it yet") != 2 {
		t.Error(out)
	}
	s := o.schedule()
	if len(s.Schedules) != 2 || s.Schedules[0].Known || s.Schedules[0].Next.Hour() != 2 || time.Until(s.Schedules[0].Next) > 25*time.Hour || s.Schedules[1].Next.Weekday() != time.Sunday {
		t.Errorf("%+v", s)
	}
	o.SQL(o.State, `INSERT INTO migrator.reconcile_schedule (migration, kind, expr, due_at, outcome, detail)
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
	if code, _, stderr := o.Try("reconcile", "schedule", "-n", "0"); code != clitest.Usage || !strings.Contains(stderr, "above 0") {
		t.Errorf("%d: %s", code, stderr)
	}
}
