package main

import (
	"strings"
	"testing"

	"github.com/stranglerfig/migrator/internal/test/clitest"
)

// TestWhatCanBeApproved: the next step, and grace, which a reclaim enters from any phase before it.
func TestWhatCanBeApproved(t *testing.T) {
	t.Parallel()
	o := clitest.New(t, "loans", "  table: loans\n", "  key: loan:{id}\n", clitest.Staged)
	o.SQL(o.Legacy, `CREATE TABLE loans (id bigint PRIMARY KEY)`)
	o.Does("init", "apply", "phase approve", "phase approve --to grace --reason reclaim")
	for to, why := range map[string]string{"retain": "can't be approved yet", "cutover": "can't be approved yet", "returning": "returning", "nowhere": "nowhere"} {
		code, out, stderr := o.Try("phase", "approve", "--to", to)
		if code != exitUsage || !strings.Contains(stderr, why) || !strings.Contains(stderr, "Try: ") {
			t.Errorf("%s: %d %s%s", to, code, out, stderr)
		}
	}
}
