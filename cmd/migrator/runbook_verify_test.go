package main

import (
	"os"
	"strings"
	"testing"

	"github.com/stranglerfig/migrator/internal/test/clitest"
)

// TestARunbookIsVerifiedUnderTheAppliedConfig, since the gate needs the result.
func TestARunbookIsVerifiedUnderTheAppliedConfig(t *testing.T) {
	t.Parallel()
	o := clitest.New(t, "products", "  table: products\n", "  key: product:{id}\n", "gates: {runbook: {within: 7d}}\n")
	o.SQL(o.Legacy, `CREATE TABLE products (id bigint PRIMARY KEY, name text)`)
	o.Does("init", "apply")
	for _, name := range []string{"incident-blind", "incident-mismatch"} {
		if code, out, stderr := o.Try("runbook", "verify", "../../configs/runbooks/"+name+".md"); code != exitDone {
			t.Errorf("%s: %d: %s%s", name, code, out, stderr)
		}
	}
	file := o.Path("own.md")
	o.Write("own.md", "---\nname: rollback\ntitle: Our own\n---\n\n```sh {#ok .check}\ntrue\n```\n")
	if code, _, stderr := o.Try("runbook", "verify", file); code != exitDone {
		t.Fatalf("%d: %s", code, stderr)
	}
	text, err := os.ReadFile(o.Path("migration.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	o.Write("migration.yaml", string(text)+"exclude: [name]\n")
	if code, _, stderr := o.Try("runbook", "verify", file); code != exitUsage || !strings.Contains(stderr, "differs from what was applied") {
		t.Errorf("with another migration file: %d %s", code, stderr)
	}
}
