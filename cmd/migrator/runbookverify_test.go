package main

import (
	"os"
	"strings"
	"testing"
)

// TestARunbookIsVerifiedUnderWhatIsApplied: the gate rests on it.
func TestARunbookIsVerifiedUnderWhatIsApplied(t *testing.T) {
	t.Parallel()
	o := newOperator(t, "products", "  table: products\n", "  key: product:{id}\n", "gates: {runbook: {within: 7d}}\n")
	o.sql(o.legacy, `CREATE TABLE products (id bigint PRIMARY KEY, name text)`)
	o.does("init", "apply")
	for _, name := range []string{"incident-blind", "incident-mismatch"} {
		if code, out, said := o.try("runbook", "verify", "../../configs/runbooks/"+name+".md"); code != exitDone {
			t.Errorf("%s: %d: %s%s", name, code, out, said)
		}
	}
	file := o.path("own.md")
	o.write("own.md", "---\nname: rollback\ntitle: Our own\n---\n\n```sh {#ok .check}\ntrue\n```\n")
	if code, _, said := o.try("runbook", "verify", file); code != exitDone {
		t.Fatalf("%d: %s", code, said)
	}
	text, err := os.ReadFile(o.path("migration.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	o.write("migration.yaml", string(text)+"exclude: [name]\n")
	if code, _, said := o.try("runbook", "verify", file); code != exitUsage || !strings.Contains(said, "differs from what was applied") {
		t.Errorf("under another description: %d %s", code, said)
	}
}
