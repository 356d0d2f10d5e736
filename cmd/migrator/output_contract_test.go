package main

import (
	"regexp"
	"strings"
	"testing"

	"github.com/stranglerfig/migrator/internal/test/clitest"
)

var (
	statusHead = regexp.MustCompile(`^([^:]*): (.*) \(epoch ([0-9]+), for .*\)$`)
	gateLine   = regexp.MustCompile(`^ +(pass|off|fail|inconclusive|no data|error|overridden) +([a-z][a-z-]*) +\S`)
	checkLine  = regexp.MustCompile(`^(ok|warning|refused) +([^:]+): \S`)
)

// matches are the lines of text that the expression matches, each by its groups.
func matches(e *regexp.Regexp, text string) (found [][]string) {
	for line := range strings.Lines(text) {
		if m := e.FindStringSubmatch(strings.TrimSuffix(line, "\n")); m != nil {
			found = append(found, m[1:])
		}
	}
	return found
}

// TestScriptsCanParseTheText: operators' scripts parse the phase from the first line of
// status, and the lines of gates and of checks. These formats stay, and so do both
// commands that roll back; the other text may change.
func TestScriptsCanParseTheText(t *testing.T) {
	t.Parallel()
	o := clitest.New(t, "loans", "  table: loans\n", "  key: loan:{id}\n", clitest.Staged)
	o.SQL(o.Legacy, `CREATE TABLE loans (id bigint PRIMARY KEY, note text); INSERT INTO loans VALUES (1, 'a')`)
	o.Does("init")
	plan := func(want int) map[string]string {
		t.Helper()
		code, stdout, stderr := o.Try("plan")
		if code != want {
			t.Fatalf("plan: exit code %d\n%s%s", code, stdout, stderr)
		}
		results := map[string]string{}
		for _, check := range matches(checkLine, stdout) {
			results[check[1]] = check[0]
		}
		return results
	}
	status := func(phase, epoch string) string {
		t.Helper()
		code, stdout, stderr := o.Try("status")
		head, _, _ := strings.Cut(stdout, "\n")
		if m := statusHead.FindStringSubmatch(head); code != exitDone || m == nil || m[1] != "loans" || m[2] != phase || m[3] != epoch {
			t.Errorf("status: %d, %q, want loans: %s (epoch %s, for a time)\n%s", code, head, phase, epoch, stderr)
		}
		if !strings.Contains(stdout, "\n  rollback   ") || !strings.Contains(stdout, "\n  journal    ") {
			t.Errorf("status has no lines rollback and journal:\n%s", stdout)
		}
		return stdout
	}

	if got := plan(exitDone); got["legacy"] != "ok" || got["target"] != "ok" || got["state"] != "warning" {
		t.Errorf("plan: %v, want the stores to be ok and a warning of the state", got)
	}
	o.SQL(o.Legacy, `ALTER TABLE loans DROP CONSTRAINT loans_pkey`)
	if got := plan(exitUsage); got["legacy"] != "refused" {
		t.Errorf("plan without a primary key: %v, want legacy refused", got)
	}
	o.SQL(o.Legacy, `ALTER TABLE loans ADD PRIMARY KEY (id)`)

	o.Does("apply")
	gates := func(of, text string, want map[string]string) {
		t.Helper()
		found := map[string]string{}
		for _, gate := range matches(gateLine, text) {
			found[gate[1]] = gate[0]
		}
		for gate, verdict := range want {
			if found[gate] != verdict {
				t.Errorf("%s: gate %s is %q, want a line with %q:\n%s", of, gate, found[gate], verdict, text)
			}
		}
	}
	open := map[string]string{"fleet-settled": "pass", "soak-time": "pass"}
	held := map[string]string{"fleet-settled": "pass", "backfill-done": "no data"}
	gates("status", status("legacy", "1"), open)
	code, stdout, _ := o.Try("phase", "advance")
	gates("an advance", stdout, open)
	if code != exitDone {
		t.Errorf("an advance: exit code %d", code)
	}
	gates("status", status("shadow-write", "2"), held)
	code, stdout, _ = o.Try("phase", "advance")
	gates("an advance that gates hold", stdout, held)
	if code != exitNotYet {
		t.Errorf("an advance with closed gates: exit code %d", code)
	}
	o.Does("backfill run", "phase advance")
	gates("status", status("dual-read 100 %", "3"), map[string]string{"reconcile-clean": "no data", "consistency": "off"})
	o.Does("reconcile run --full", "phase advance")
	status("cutover 50 %", "4")
	o.Does("rollback --yes --reason test")
	status("dual-read 100 %", "5")
	o.Does("reconcile run --full", "phase advance")
	status("cutover 50 %", "6")
	o.Does("phase rollback --yes --reason test")
	status("dual-read 100 %", "7")
}
