package main

import (
	"os"
	"strings"
	"testing"

	"github.com/stranglerfig/migrator/internal/test/clitest"
)

// TestARunbookIsVerifiedUnderWhatIsApplied: the gate rests on it.
func TestARunbookIsVerifiedUnderWhatIsApplied(t *testing.T) {
	t.Parallel()
	o := clitest.New(t, "products", "  table: products\n", "  key: product:{id}\n", "gates: {runbook: {within: 7d}}\n")
	o.SQL(o.Legacy, `CREATE TABLE products (id bigint PRIMARY KEY, name text)`)
	o.Does("init", "apply")
	for _, name := range []string{"incident-blind", "incident-mismatch"} {
		if code, out, said := o.Try("runbook", "verify", "../../configs/runbooks/"+name+".md"); code != exitDone {
			t.Errorf("%s: %d: %s%s", name, code, out, said)
		}
	}
	file := o.Path("own.md")
	o.Write("own.md", "---\nname: rollback\ntitle: Our own\n---\n\n```sh {#ok .check}\ntrue\n```\n")
	if code, _, said := o.Try("runbook", "verify", file); code != exitDone {
		t.Fatalf("%d: %s", code, said)
	}
	text, err := os.ReadFile(o.Path("migration.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	o.Write("migration.yaml", string(text)+"exclude: [name]\n")
	if code, _, said := o.Try("runbook", "verify", file); code != exitUsage || !strings.Contains(said, "differs from what was applied") {
		t.Errorf("under another description: %d %s", code, said)
	}
}
