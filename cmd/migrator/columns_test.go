package main

import (
	"strings"
	"testing"

	"github.com/stranglerfig/migrator/internal/test/clitest"
)

// TestAnAddedColumn: a colleague adds a column in mid-migration, the most ordinary of online
// changes. Each command names it, what was applied goes on, and it moves once that is said.
func TestAnAddedColumn(t *testing.T) {
	t.Parallel()
	o := clitest.New(t, "items", "  table: items\n", "  key: item:{id}\n", `environment: rehearsal
phases:
  shadow_write: {for: 0s}
  dual_read: {steps: [100], over: 0s}
  approval: {for: []}
gates: {off: a test without traffic}
writing: {not_after: 500ms, deadline: 500ms}
reconcile: {pause: 5ms}
`)
	o.SQL(o.Legacy, `CREATE TABLE items (id bigint PRIMARY KEY, name text); INSERT INTO items SELECT i, 'item ' || i FROM generate_series(1, 20) i`)
	o.Does("init", "apply", "phase advance", "backfill run", "phase advance", "reconcile run --full")
	o.SQL(o.Legacy, `ALTER TABLE items ADD COLUMN stock int DEFAULT 5`)
	const names = `column "stock" was added, and is not moved`
	says := func(code int, want, line string) {
		t.Helper()
		got, stdout, stderr := o.Try(strings.Fields(line)...)
		if got != code || !strings.Contains(stdout+stderr, want) {
			t.Errorf("migrator %s: exit code %d, want %d and %q:\n%s%s", line, got, code, want, stdout, stderr)
		}
	}
	says(clitest.Done, names, "plan")
	says(clitest.Done, names, "doctor")
	says(clitest.Usage, "Try: migrator apply --add-field stock", "apply")
	says(clitest.Done, names, "phase advance --dry-run")
	says(clitest.Done, names, "status")
	says(clitest.Done, `"change": "added"`, "status -o json")
	says(clitest.Done, "0 of 20 differ", "reconcile run --full")
	says(clitest.Done, "until a backfill begins", "apply --add-field stock")
	says(clitest.NotYet, "no backfill has begun since the columns that are moved were changed", "phase advance")
	o.Does("backfill run", "reconcile run --full", "phase advance")
	o.SQL(o.Legacy, `ALTER TABLE items DROP COLUMN stock`)
	const dropped = `column "stock" was dropped, or renamed`
	says(clitest.Usage, dropped, "plan")
	says(clitest.Usage, dropped, "doctor")
	says(clitest.NotYet, dropped, "phase advance")
	says(clitest.Done, dropped, "status")
	says(clitest.Usage, "after a rollback to dual-read", "apply")
}
