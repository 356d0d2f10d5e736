package main

import (
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/stranglerfig/migrator/internal/test/clitest"
)

// TestRefusalsHaveFactAndHint gives bad input to commands. Unchecked, it would reach a
// database, or fail at the end of a run that may take hours.
func TestRefusalsHaveFactAndHint(t *testing.T) {
	t.Parallel()
	o := clitest.New(t, "loans", "  table: loans\n", "  key: loan:{id}\n", clitest.Staged)
	o.SQL(o.Legacy, `CREATE TABLE loans (id bigint PRIMARY KEY, note text); INSERT INTO loans VALUES (1, 'a')`)
	o.Does("init", "apply")
	for _, c := range []struct {
		args, says string
		code       int
	}{
		{"reconcile list -n -1", "--limit -1: want a number above 0", exitUsage},
		{"reconcile show 1 -n -1", "--limit -1: want a number from 0 on", exitUsage},
		{"reconcile run --full --repair", "loans is on legacy: writes don't reach the target", exitUsage},
		{"drill list -n 0", "--limit 0: want a number above 0", exitUsage},
		{"drill rollback --load nowhere.jsonl", "the load's ledger: stat nowhere.jsonl", exitUsage},
		{"backfill run --workers -1", "--workers -1: want a number from 0 to 64", exitUsage},
		{"backfill run --workers 900", "--workers 900: want a number from 0 to 64", exitUsage},
		{"backfill run --rate 1000000001", "--rate 1000000001: want a number from 0 to 1000000000", exitUsage},
		{"worker --workers 65", "--workers 65: want a number from 0 to 64", exitUsage},
		{"reconcile run --rate -1", "--rate -1: want", exitUsage},
		{"reconcile run --repair --max-repairs 1000000001", "--max-repairs 1000000001: want", exitUsage},
		{"reconcile run --repair --repair-rate -5", "--repair-rate -5: want", exitUsage},
		{"drill rollback --healthy 61m", "--healthy at most 1h", exitUsage},
		{"reconcile run --textfile " + o.Path("nowhere/x.prom"), "nothing can be written to " + o.Path("nowhere"), exitUsage},
		{"phase rollback --yes --accept-missing 0", `--accept-missing "0": want the number of lost records`, exitUsage},
		{"phase rollback --yes --accept-missing=", `--accept-missing "": want the number of lost records`, exitUsage},
		{"gate explain soak-time", "no evaluation of soak-time is kept", exitUsage},
		{"gate explain errors --at 2020-01-01T00:00:00Z", "from 2020-01-01T00:00:00Z or before", exitUsage},
	} {
		code, stdout, stderr := o.Try(strings.Fields(c.args)...)
		if code != c.code || !strings.Contains(stderr, c.says) || stdout != "" {
			t.Errorf("%s: %d %s%s", c.args, code, stdout, stderr)
		}
	}
	if code, runs, _ := o.Try("reconcile", "list", "-o", "json"); code != exitDone || strings.TrimSpace(runs) != "[]" {
		t.Errorf("a refused run was recorded: %s", runs)
	}

	// The closed gate is not measured: there is no evaluation to explain.
	o.Does("phase advance")
	if code, _, stderr := o.Try("gate", "list"); code != exitNotYet || !strings.Contains(stderr, "Try: migrator backfill run") {
		t.Errorf("gate list: %d %s", code, stderr)
	}

	o.Write("settings.yaml", "file: "+o.Path("migration.yaml")+"\nstate_url: "+o.State+"\noutptu: json\n")
	if code, _, stderr := o.Try("status"); code != exitUsage || !strings.Contains(stderr, "there is no setting outptu") {
		t.Errorf("an unknown setting: %d %s", code, stderr)
	}
}

// TestBadInputIsExitCode2Everywhere: a store's URL, the state's, a missing migration file.
func TestBadInputIsExitCode2Everywhere(t *testing.T) {
	t.Parallel()
	o := clitest.New(t, "loans", "  table: loans\n", "  key: loan:{id}\n", clitest.Staged)
	o.SQL(o.Legacy, `CREATE TABLE loans (id bigint PRIMARY KEY, note text)`)
	o.Does("init", "apply", "phase advance")
	for _, c := range []struct{ file, url, says string }{
		{"legacy.url", "postgres://alice:hu%sh@127.0.0.1:1/lib", "the URL of the legacy PostgreSQL can't be read"},
		{"target.url", "redis://:hush@127.0.0.1:1/first", "target.url: the database is not a number"},
		{"target.url", "redis://:hush@127.0.0.1:1/0?color=red", "target.url: unknown option color"},
	} {
		good, err := os.ReadFile(o.Path(c.file))
		if err != nil {
			t.Fatal(err)
		}
		o.Write(c.file, c.url)
		for _, args := range []string{"reconcile run", "backfill run", "worker", "reconcile explain 1", "plan"} {
			code, stdout, stderr := o.Try(strings.Fields(args)...)
			if code != exitUsage || !strings.Contains(stdout+stderr, c.says) || strings.Contains(stdout+stderr, "hush") {
				t.Errorf("%s with %s: %d %s%s", args, c.url, code, stdout, stderr)
			}
		}
		o.Write(c.file, string(good))
	}
	for args, advice := range map[string]string{
		"--file nosuch.yaml reconcile run":   "Try: migrator --file ",
		"--file nosuch.yaml status":          "Try: migrator --file ",
		"--file nosuch.yaml config validate": "Try: migrator --file ",
		"serve nosuch.yaml":                  "Try: migrator serve ",
	} {
		code, _, stderr := o.Try(strings.Fields(args)...)
		if code != exitUsage || !strings.Contains(stderr, "nosuch.yaml does not exist") || !strings.Contains(stderr, advice) {
			t.Errorf("%s: %d %s", args, code, stderr)
		}
	}
}

// TestUnreachableLegacyIsReportedInOneLine, without the role and the password.
func TestUnreachableLegacyIsReportedInOneLine(t *testing.T) {
	t.Parallel()
	o := clitest.New(t, "loans", "  table: loans\n", "  key: loan:{id}\n", "")
	nowhere, err := url.Parse(o.Legacy)
	if err != nil {
		t.Fatal(err)
	}
	wrongRole := *nowhere
	nowhere.Path += "_that_is_not"
	wrongRole.User = url.UserPassword("alice", "hush")
	for _, c := range []struct{ url, says string }{
		{"postgres://alice:hush@127.0.0.1:1/lib", "(127.0.0.1:1, database lib) refuses connections: no server listens there"},
		{"postgres://alice:hush@nowhere.invalid/lib", "(nowhere.invalid:5432, database lib) has a host that can't be found"},
		{nowhere.String(), "has no such database: "},
		{wrongRole.String(), "refuses the role or its password"},
	} {
		o.Write("legacy.url", c.url)
		code, stdout, stderr := o.Try("plan")
		var line string
		for l := range strings.Lines(stdout) {
			if strings.HasPrefix(l, "refused  legacy: open: ") {
				line = l
			}
		}
		if code != exitUsage || !strings.Contains(line, c.says) || strings.Contains(stdout+stderr, "alice") || strings.Contains(stdout+stderr, "hush") {
			t.Errorf("%d, want %q:\n%s%s", code, c.says, stdout, stderr)
		}
	}
}

// TestADeadTargetStopsAJobBeforeItBegins: a run that could not compare is not recorded.
func TestADeadTargetStopsAJobBeforeItBegins(t *testing.T) {
	t.Parallel()
	o := clitest.New(t, "loans", "  table: loans\n", "  key: loan:{id}\n", clitest.Staged)
	o.SQL(o.Legacy, `CREATE TABLE loans (id bigint PRIMARY KEY, note text)`)
	o.Does("init", "apply", "phase advance")
	o.Write("target.url", "redis://:hush@127.0.0.1:1/0")
	for _, args := range []string{"reconcile run", "reconcile run --full --repair", "backfill run"} {
		code, stdout, stderr := o.Try(strings.Fields(args)...)
		if code != exitError || !strings.Contains(stderr, "the target does not answer: ") || !strings.Contains(stderr, "Try: give target.url the right host and port; or start the server") || strings.Contains(stdout+stderr, "hush") {
			t.Errorf("%s: %d %s%s", args, code, stdout, stderr)
		}
	}
	if code, runs, _ := o.Try("reconcile", "list", "-o", "json"); code != exitDone || strings.TrimSpace(runs) != "[]" {
		t.Errorf("a run was recorded: %s", runs)
	}
}

// TestBadArgumentsAreRefusedBeforeAServerIsDialed: what the arguments alone show to be
// wrong is exit code 2 while the state database is down, as when it is up.
func TestBadArgumentsAreRefusedBeforeAServerIsDialed(t *testing.T) {
	t.Parallel()
	o := clitest.New(t, "loans", "  table: loans\n", "  key: loan:{id}\n", "")
	o.Write("settings.yaml", "file: "+o.Path("migration.yaml")+"\nstate_url: postgres://127.0.0.1:1/nowhere\n")
	if code, _, stderr := o.Try("runbook", "list"); code != exitError || !strings.Contains(stderr, "refuses connections: no server listens there") {
		t.Fatalf("the state database is not down: %d %s", code, stderr)
	}
	for _, c := range []struct {
		args []string
		says string
	}{
		{[]string{"phase", "approve", "--to", "bogus"}, `unknown phase "bogus"`},
		{[]string{"token", "create", "--quiet"}, "--quiet would hide the token"},
		{[]string{"token", "revoke", "mgt_secret"}, "not the token itself"},
		{[]string{"phase", "advance", "--to", "bogus"}, `unknown phase "bogus"`},
		{[]string{"phase", "history", "--limit", "0"}, "--limit 0"},
		{[]string{"runbook", "list", "--limit", "0"}, "--limit 0"},
		{[]string{"drill", "list", "--limit", "0"}, "--limit 0"},
		{[]string{"reconcile", "list", "--limit", "0"}, "--limit 0"},
		{[]string{"reconcile", "show", "N"}, `run "N"`},
		{[]string{"reconcile", "pause", "N"}, `run "N"`},
		{[]string{"drill", "show", "N"}, `drill "N"`},
		{[]string{"runbook", "show", "N"}, `"N" is no number of a run`},
		{[]string{"runbook", "export", "N"}, `"N" is no number of a run`},
		{[]string{"runbook", "approve", "N", "step"}, `"N" is no number of a run`},
		{[]string{"runbook", "approve", "7", "step", "--reject"}, "a rejection needs a reason"},
		{[]string{"runbook", "resume", "N"}, `"N" is no number of a run`},
		{[]string{"fleet", "evict", ""}, "name one instance"},
		{[]string{"fleet", "evict", "app-1"}, "an eviction needs a reason"},
		{[]string{"trigger", "test", "--since", "0s"}, "--since 0s"},
	} {
		code, _, stderr := o.Try(c.args...)
		if code != exitUsage || !strings.Contains(stderr, c.says) {
			t.Errorf("%q: %d %s", c.args, code, stderr)
		}
	}
}
