package main

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/dual/pgfleet"
	"github.com/stranglerfig/migrator/internal/test/clitest"
)

// TestForeignWordsShowAsOneLine: names of roles, instances, tables and columns, and reasons, are
// others' words. No command shows one so that a terminal would interpret it, or as a line of its
// own.
func TestForeignWordsShowAsOneLine(t *testing.T) {
	t.Parallel()
	const hostile = "\x1b[2J\x1b]0;pwned\a\u202e\u009b31m\nFORGED  line\r\tx|`[a](b)"
	o := clitest.New(t, "loans", "  table: \"\\\"lo\\e[1mans\\\"\"\n", "  key: loan:{id}\n", clitest.Staged)
	o.SQL(o.Legacy, "CREATE TABLE \"lo\x1b[1mans\" (id bigint PRIMARY KEY, \"no"+hostile+"te\" text); INSERT INTO \"lo\x1b[1mans\" VALUES (1, 'a')")
	o.Does("init", "apply")

	role := fmt.Sprintf("evil%d%s", time.Now().UnixNano(), hostile)
	quoted := `"` + role + `"`
	o.SQL(o.State, "CREATE ROLE "+quoted+" SUPERUSER LOGIN PASSWORD 'pw'")
	t.Cleanup(func() { o.SQL(o.State, "DROP ROLE "+quoted) })
	u, err := url.Parse(o.State)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(role, "pw")
	o.Write("settings.yaml", "file: "+o.Path("migration.yaml")+"\nstate_url: '"+u.String()+"'\n")

	fleet, err := pgfleet.Open(t.Context(), o.State, "loans", pgfleet.Options{Lease: 5 * time.Minute, Renew: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(fleet.Close)
	if _, err := dual.Join(t.Context(), dual.Config{Fleet: fleet, Identity: dual.Identity{Instance: "i" + hostile, About: "a" + hostile}}); err != nil {
		t.Fatal(err)
	}

	shown := 0
	check := func(args []string, text string) {
		t.Helper()
		shown += strings.Count(text, "pwned")
		for line := range strings.Lines(text) {
			if strings.HasPrefix(strings.TrimSpace(line), "FORGED") {
				t.Errorf("%q prints a line of another's: %q", args, line)
			}
		}
		for _, r := range text {
			if r != '\n' && r != ' ' && !unicode.IsPrint(r) {
				t.Errorf("%q prints %q:\n%q", args, r, text)
				break
			}
		}
	}
	run := func(args ...string) {
		t.Helper()
		for _, form := range []string{"text", "json"} {
			_, stdout, stderr := o.Try(append(args, "-o", form)...)
			check(args, stdout)
			check(args, stderr)
			if form == "json" && stdout != "" && !json.Valid([]byte(stdout)) {
				t.Errorf("%q prints no JSON: %q", args, stdout)
			}
		}
	}
	run("phase", "advance")
	run("backfill", "run")
	run("phase", "approve", "--to", "dual-read", "--reason", "r"+hostile)
	run("phase", "pause", "--reason", "r"+hostile)
	for _, args := range []string{
		"status", "plan", "doctor", "phase history", "history verify", "fleet list", "gate list", "trigger list", "trigger test",
		"config show", "config validate", "reconcile run --full", "reconcile list", "reconcile show", "reconcile explain 1",
		"runbook list", "runbook render rollback", "drill list", "reconcile schedule", "phase advance --dry-run",
	} {
		run(strings.Fields(args)...)
	}
	run("fleet", "evict", "i"+hostile, "--reason", "r"+hostile)
	run("fleet", "evict", "none"+hostile, "--reason", "r")
	run("phase", "rollback", "--yes", "--to", "legacy", "--reason", "r"+hostile)
	run("phase", "history")
	if shown < 30 {
		t.Errorf("these words were shown %d times: the test looks at too little", shown)
	}
}
