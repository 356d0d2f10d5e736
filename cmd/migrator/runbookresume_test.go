package main

import (
	"os"
	"strings"
	"testing"
)

// TestARunIsNotResumedUnderAnotherConfiguration, which its commands know nothing of,
// unless somebody says that they fit.
func TestARunIsNotResumedUnderAnotherConfiguration(t *testing.T) {
	t.Parallel()
	o := newOperator(t, "products", "  table: products\n", "  key: product:{id}\n", "")
	o.sql(o.legacy, `CREATE TABLE products (id bigint PRIMARY KEY, name text)`)
	o.does("init", "apply")
	o.write("own.md", "---\nname: own\ntitle: Our own\n---\n\n```text {#go .approve timeout=50ms}\nShall we?\n```\n\n```sh {#ok .check}\ntrue\n```\n")
	if code, _, said := o.try("runbook", "run", o.path("own.md")); code != exitNotYet {
		t.Fatalf("%d: %s", code, said)
	}
	o.does("runbook approve 1 go")
	text, err := os.ReadFile(o.path("migration.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	o.write("migration.yaml", string(text)+"exclude: [name]\n")
	o.does("apply")
	code, _, said := o.try("runbook", "resume", "1")
	if code != exitUsage || !strings.Contains(said, "run 1 began under the configuration ") ||
		!strings.Contains(said, "Try: migrator runbook export 1, and if they still fit: migrator runbook resume 1 --despite-changes") {
		t.Errorf("%d: %s", code, said)
	}
	code, out, said := o.try("runbook", "resume", "1", "--despite-changes")
	if code != exitDone || !strings.Contains(said, "it goes on all the same") || !strings.Contains(out, "run 1 of own: done") {
		t.Errorf("%d: %s%s", code, out, said)
	}
}

// TestARunIsResumedUnderItsOwnConfiguration: what decides nothing is no change.
func TestARunIsResumedUnderItsOwnConfiguration(t *testing.T) {
	t.Parallel()
	o := newOperator(t, "products", "  table: products\n", "  key: product:{id}\n", "")
	o.sql(o.legacy, `CREATE TABLE products (id bigint PRIMARY KEY, name text)`)
	o.does("init", "apply")
	o.write("own.md", "---\nname: own\ntitle: Our own\n---\n\n```text {#go .approve timeout=50ms}\nShall we?\n```\n")
	if code, _, said := o.try("runbook", "run", o.path("own.md")); code != exitNotYet {
		t.Fatalf("%d: %s", code, said)
	}
	text, err := os.ReadFile(o.path("migration.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	o.write("migration.yaml", string(text)+"reconcile: {rate: 7}\n")
	o.does("apply", "runbook approve 1 go", "runbook resume 1")
}
