package main

import (
	"os"
	"strings"
	"testing"

	"github.com/stranglerfig/migrator/internal/test/clitest"
)

// TestARunIsNotResumedUnderAnotherConfiguration unless the operator confirms that its
// commands still fit.
func TestARunIsNotResumedUnderAnotherConfiguration(t *testing.T) {
	t.Parallel()
	o := clitest.New(t, "products", "  table: products\n", "  key: product:{id}\n", "")
	o.SQL(o.Legacy, `CREATE TABLE products (id bigint PRIMARY KEY, name text)`)
	o.Does("init", "apply")
	o.Write("own.md", "---\nname: own\ntitle: Our own\n---\n\n```text {#go .approve timeout=50ms}\nShall we?\n```\n\n```sh {#ok .check}\ntrue\n```\n")
	if code, _, stderr := o.Try("runbook", "run", o.Path("own.md")); code != exitNotYet {
		t.Fatalf("%d: %s", code, stderr)
	}
	o.Does("runbook approve 1 go")
	text, err := os.ReadFile(o.Path("migration.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	o.Write("migration.yaml", string(text)+"exclude: [name]\n")
	o.Does("apply")
	code, _, stderr := o.Try("runbook", "resume", "1")
	if code != exitUsage || !strings.Contains(stderr, "run 1 began under config hash ") ||
		!strings.Contains(stderr, "Try: migrator runbook export 1, and if they still fit: migrator runbook resume 1 --despite-changes") {
		t.Errorf("%d: %s", code, stderr)
	}
	code, out, stderr := o.Try("runbook", "resume", "1", "--despite-changes")
	if code != exitDone || !strings.Contains(stderr, "resuming anyway") || !strings.Contains(out, "run 1 of own: done") {
		t.Errorf("%d: %s%s", code, out, stderr)
	}
}

// TestARunIsResumedUnderItsOwnConfiguration: a change that is not in the hash is none.
func TestARunIsResumedUnderItsOwnConfiguration(t *testing.T) {
	t.Parallel()
	o := clitest.New(t, "products", "  table: products\n", "  key: product:{id}\n", "")
	o.SQL(o.Legacy, `CREATE TABLE products (id bigint PRIMARY KEY, name text)`)
	o.Does("init", "apply")
	o.Write("own.md", "---\nname: own\ntitle: Our own\n---\n\n```text {#go .approve timeout=50ms}\nShall we?\n```\n")
	if code, _, stderr := o.Try("runbook", "run", o.Path("own.md")); code != exitNotYet {
		t.Fatalf("%d: %s", code, stderr)
	}
	text, err := os.ReadFile(o.Path("migration.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	o.Write("migration.yaml", string(text)+"reconcile: {rate: 7}\n")
	o.Does("apply", "runbook approve 1 go", "runbook resume 1")
}
