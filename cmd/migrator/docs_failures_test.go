package main

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/openstore"
	"github.com/stranglerfig/migrator/internal/test/clitest"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store/redis"
)

// urlSettings are the settings by which remedies name a URL.
var urlSettings = map[string]string{hint.PostgreSQL: "legacy.url", hint.Redis: "target.url", hint.Prometheus: "prometheus.url"}

// failureReference is the table of a system's failures.
func failureReference(system string) string {
	var b strings.Builder
	b.WriteString("| code | the server … | risk to data | do |\n|---|---|---|---|\n")
	for _, f := range hint.Failures() {
		if f.System == system {
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", f.Code, cell(f.What), cell(f.Risk), cell(given{}.text(f.Remedy(urlSettings[system]))))
		}
	}
	return b.String()
}

// aclReference is the ACL of the examples' migration to Redis.
func aclReference() (string, error) {
	m, err := openstore.Parse("products.yaml", []byte("name: products\nlegacy: {store: postgres, url: postgres://h/db, table: products}\n"+
		"target: {store: redis, url: redis://migrator@cache:6379, key: \"product:{id}\"}\n"), func(string) (string, bool) { return "", false })
	if err != nil {
		return "", err
	}
	schema := &record.Schema{Fields: []record.Field{{Name: "id", Kind: record.Int}}, Key: []int{0}}
	t, err := redis.Open(context.Background(), m, m.Target.URL, schema)
	if err != nil {
		return "", err
	}
	defer func() { _ = t.Close() }()
	return "```text\n" + t.ACL() + "\n```", nil
}

// TestNoRemedyOfTheTableLoops: a command that a remedy names exists, and the same command again is
// only named with what must change before, or for what passes by itself.
func TestNoRemedyOfTheTableLoops(t *testing.T) {
	t.Parallel()
	passes := map[string]bool{"57P03": true, "40P01": true, "25P03": true, "LOADING": true, "BUSY": true}
	for _, f := range hint.Failures() {
		for _, setting := range []string{"", hint.StateURL, urlSettings[f.System]} {
			h := f.Remedy(setting)
			line := given{}.text(h)
			switch {
			case h.IsZero() || line == "":
				t.Errorf("%s %s: no remedy", f.System, f.Code)
			case h.Do == hint.Retry && h.Text == "" && !passes[f.Code]:
				t.Errorf("%s %s: the same again changes nothing", f.System, f.Code)
			case h.Do == hint.Retry && f.Server == "" && !passes[f.Code]:
				t.Errorf("%s %s: %s: nothing says what must change first", f.System, f.Code, line)
			case h.Do != "" && h.Do != hint.Retry && h.Do != hint.SetStateURL:
				if err := parsed(given{}.commandLine(hint.Hint{Do: h.Do, Of: h.Of})); err != nil {
					t.Errorf("%s %s: %s: %v", f.System, f.Code, line, err)
				}
			case h.Do == "" && strings.Contains(line, "migrator "):
				t.Errorf("%s %s: %s: a command belongs into Do", f.System, f.Code, line)
			}
		}
	}
}

// TestAForeignFailureIsShown with the system's own words, the risk and the command.
func TestAForeignFailureIsShown(t *testing.T) {
	t.Parallel()
	o := clitest.New(t, "loans", "  table: loans\n", "  key: loan:{id}\n", "")
	o.Write("settings.yaml", "file: "+o.Path("migration.yaml")+"\nstate_url: "+clitest.AsRole(o.State, "alice", "hush")+"\n")
	code, _, stderr := o.Try("status")
	if code != exitUsage || !strings.Contains(stderr, `password authentication failed for user "..." (SQLSTATE 28P01)`) ||
		!strings.Contains(stderr, "\nRisk to data: none") || !strings.Contains(stderr, "\nTry: export MIGRATOR_STATE_URL") || strings.Contains(stderr, "alice") || strings.Contains(stderr, "hush") {
		t.Errorf("%d %s", code, stderr)
	}
	code, _, stderr = o.Try("status", "-o", "json")
	if code != exitUsage || !strings.Contains(stderr, `"risk":"none`) || !strings.Contains(stderr, `"do":"state-url"`) {
		t.Errorf("%d %s", code, stderr)
	}
}

// TestAWrongPasswordOfAStoreIsBadInput, as one of the state database is.
func TestAWrongPasswordOfAStoreIsBadInput(t *testing.T) {
	t.Parallel()
	o := clitest.New(t, "loans", "  table: loans\n", "  key: loan:{id}\n", clitest.Staged)
	o.SQL(o.Legacy, `CREATE TABLE loans (id bigint PRIMARY KEY)`)
	o.Does("init", "apply", "phase advance")
	for file, good := range map[string]string{"legacy.url": o.Legacy, "target.url": o.Target} {
		o.Write(file, clitest.AsRole(good, "alice", "hush"))
		code, _, stderr := o.Try("backfill", "run")
		if code != exitUsage || strings.Contains(stderr, "hush") || !strings.Contains(stderr, "the right") {
			t.Errorf("%s: %d %s", file, code, stderr)
		}
		o.Write(file, good)
	}
}

// TestProductionWarnings: each safeguard that is off is a warning with the line, which removes it.
func TestProductionWarnings(t *testing.T) {
	t.Parallel()
	o := clitest.New(t, "loans", "  table: loans\n", "  key: loan:{id}\n", "")
	o.SQL(o.Legacy, `CREATE TABLE loans (id bigint PRIMARY KEY)`)
	names := []string{"runbook", "drill", "approval", "reconcile"}
	for _, line := range []string{"config validate", "plan"} {
		_, out, stderr := o.Try(strings.Fields(line)...)
		_, js, _ := o.Try(append(strings.Fields(line), "-o", "json")...)
		for _, name := range names {
			if !strings.Contains(out, name+": ") || !strings.Contains(js, name+`"`) {
				t.Errorf("%s: no warning of %s:\n%s%s%s", line, name, out, js, stderr)
			}
		}
		for _, yaml := range []string{"gates: {runbook: {within: 30d}}", "gates: {drill: {within: 30d}}", "phases: {approval: {role: ROLE}}", `reconcile: {schedule: "0 3 * * *"}`} {
			if !strings.Contains(out, yaml) {
				t.Errorf("%s: %q is not shown:\n%s", line, yaml, out)
			}
		}
	}
	o = clitest.New(t, "loans", "  table: loans\n", "  key: loan:{id}\n", "\ngates: {runbook: {within: 30d}, drill: {off: a test}}\nphases: {approval: {role: postgres}}\nreconcile: {schedule: \"0 3 * * *\"}\n")
	if _, out, _ := o.Try("config", "validate"); strings.Contains(out, "warning") {
		t.Error(out)
	}
	// A role that decides must be there, and be of use.
	const role = "migrator_test_boards"
	o = clitest.New(t, "loans", "  table: loans\n", "  key: loan:{id}\n", "\nphases: {approval: {role: "+role+"}}\n")
	o.SQL(o.Legacy, `CREATE TABLE loans (id bigint PRIMARY KEY)`)
	o.Does("init")
	if code, out, _ := o.Try("apply"); code == 0 || !strings.Contains(out, `has no role "`+role+`"`) {
		t.Errorf("%d %s", code, out)
	}
	o.SQL(o.State, `CREATE ROLE `+role)
	boards := o
	t.Cleanup(func() { boards.SQL(boards.State, `DROP ROLE `+role) })
	if code, out, _ := o.Try("plan"); code != 0 || !strings.Contains(out, "has no member that may log in") {
		t.Errorf("%d %s", code, out)
	}
	o = clitest.New(t, "loans", "  table: loans\n", "  key: loan:{id}\n", clitest.Staged)
	if _, out, _ := o.Try("config", "validate"); strings.Contains(out, "warning") {
		t.Error(out)
	}
}
