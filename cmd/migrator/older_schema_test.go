package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/test/clitest"
)

// TestARollbackDoesNotWaitForAnUpgrade of the state's schema, and everything else does.
func TestARollbackDoesNotWaitForAnUpgrade(t *testing.T) {
	t.Parallel()
	o := clitest.New(t, "loans", "  table: loans\n", "  key: loan:{id}\n", clitest.Staged)
	o.SQL(o.Legacy, `CREATE TABLE loans (id bigint PRIMARY KEY)`)
	o.Does("init", "apply", "phase advance")
	o.SQL(o.State, fmt.Sprintf(`DELETE FROM migrator.schema_version WHERE version_id > %d`, state.RollbackFrom))
	for _, line := range []string{"status", "phase advance", "phase pause --reason x"} {
		if code, _, stderr := o.Try(strings.Fields(line)...); code != exitUsage || !strings.Contains(stderr, "this release only rolls back") {
			t.Errorf("%s: %d %s", line, code, stderr)
		}
	}
	if code, out, stderr := o.Try("rollback", "--to", "legacy", "--yes", "--reason", "at night"); code != 0 || !strings.Contains(out, "legacy") || !strings.Contains(stderr, "only rolls back") {
		t.Errorf("%d %s%s", code, out, stderr)
	}
	o.SQL(o.State, fmt.Sprintf(`DELETE FROM migrator.schema_version WHERE version_id >= %d`, state.RollbackFrom))
	if code, _, stderr := o.Try("rollback", "--yes"); code != exitUsage || !strings.Contains(stderr, "a rollback too") {
		t.Errorf("%d %s", code, stderr)
	}
}
