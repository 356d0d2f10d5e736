package main

import (
	"crypto/rand"
	"strings"
	"testing"

	"github.com/stranglerfig/migrator/internal/test/clitest"
)

// TestEachKindOfGrantIsEnoughForItsCommands runs them as roles of a real server that have one grant each, for one
// migration.
func TestEachKindOfGrantIsEnoughForItsCommands(t *testing.T) {
	t.Parallel()
	o := clitest.New(t, "products", "  table: products\n", "  key: product:{id}\n",
		strings.Replace(clitest.Served, "approval: {for: []}", "approval: {for: [cutover], two_people: []}", 1))
	o.SQL(o.Legacy, `CREATE TABLE products (id bigint PRIMARY KEY, name text); INSERT INTO products SELECT n, 'name ' || n FROM generate_series(1, 50) n`)
	o.Does("init")
	owner := o.State
	as := func(kind string) {
		url := owner
		if kind != "" {
			url = clitest.AsRole(owner, kind, "pw")
		}
		o.Write("settings.yaml", "file: "+o.Path("migration.yaml")+"\nstate_url: "+url+"\n")
	}
	suffix := "_" + strings.ToLower(rand.Text()[:10])
	operator, decider, viewer := "operator"+suffix, "decider"+suffix, "viewer"+suffix
	for _, role := range []string{operator, decider, viewer} {
		o.SQL(owner, `CREATE ROLE `+role+` LOGIN PASSWORD 'pw'`)
		t.Cleanup(func() { o.SQL(owner, `DROP OWNED BY `+role+` CASCADE; DROP ROLE `+role) })
	}
	o.Does("init --grant-operator " + operator + " --grant-decider " + decider + " --grant-viewer " + viewer + " --migration products")

	as(operator)
	o.Does("plan", "apply", "apply", "phase advance", "backfill run", "phase advance", "reconcile run --full", "reconcile list", "reconcile run",
		"runbook verify rollback", "runbook list", "phase pause --reason lunch", "phase resume", "fleet list", "trigger list", "drill list", "phase history --verify", "status", "doctor")
	as(decider)
	o.Does("phase approve --to cutover --reason seen", "phase pause --reason wait", "phase resume", "status", "history verify")
	for _, line := range []string{"phase advance", "rollback --to legacy --yes", "reconcile run"} {
		if code, _, stderr := o.Try(strings.Fields(line)...); code == exitDone || !strings.Contains(stderr, "privilege") && !strings.Contains(stderr, "grant") {
			t.Errorf("a decider: %s: %d %s", line, code, stderr)
		}
	}
	as(viewer)
	o.Does("status", "phase history", "history verify", "reconcile list", "reconcile show 1", "drill list", "fleet list", "trigger list", "runbook list")
	for _, line := range []string{"phase pause --reason x", "phase approve --to cutover", "phase advance"} {
		if code, _, stderr := o.Try(strings.Fields(line)...); code == exitDone || !strings.Contains(stderr, "privilege") && !strings.Contains(stderr, "grant") {
			t.Errorf("a viewer: %s: %d %s", line, code, stderr)
		}
	}
	as(operator)
	o.Does("rollback --to legacy --yes", "phase advance")
	as("")
	o.Does("history verify")
}
