package docstest

import (
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/dual/pgfleet"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/test/clitest"
	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
)

// tokens are of a role that the database has from the start.
func (a *audit) tokens() {
	a.expect(clitest.Usage, "token", "create") // of the owner
	a.expect(clitest.Done, "token", "list")
	a.expect(clitest.Done, "token", "create", "--role", "pg_monitor", "--dry-run")
	a.expect(clitest.Done, "token", "create", "--role", "pg_monitor", "--about", "a test")
	a.expect(clitest.Done, "token", "create", "--replaces", "2", "--overlap", "0s")
	a.expect(clitest.Usage, "token", "create", "--replaces", "2")
	a.expect(clitest.Usage, "token", "create", "--role", "pg_monitor", "--days", "1000")
	a.expect(clitest.Done, "token", "revoke", "3")
	a.expect(clitest.Done, "token", "revoke", "3", "--dry-run")
	a.expect(clitest.Usage, "token", "revoke", "7")
	a.expect(clitest.Usage, "token", "revoke", "mgt_x")
	a.expect(clitest.Done, "token", "list")
}

func (a *audit) scenario() {
	o := a.o
	a.expect(clitest.Usage, "status") // no schema yet
	a.expect(clitest.Done, "init", "--dry-run")
	a.expect(clitest.Done, "init")
	a.expect(clitest.Done, "plan")
	a.expect(clitest.Done, "doctor")
	a.expect(clitest.Usage, "status") // nothing applied
	a.expect(clitest.Done, "apply", "--dry-run")
	a.expect(clitest.Done, "apply")
	a.expect(clitest.Done, "version")
	a.tokens()
	a.drills()
	for _, sub := range []string{"schema", "settings", "show", "validate"} {
		a.expect(clitest.Done, "config", sub)
	}
	a.expect(clitest.NotYet, "backfill", "run")
	for _, rollback := range [][]string{{"phase", "rollback"}, {"rollback"}} {
		leave := a.join("shop-1", 5*time.Minute)
		a.expect(clitest.NotYet, "phase", "advance", "--settle", "1ms") // it never acknowledges
		a.expect(clitest.NotYet, append(rollback, "--to", "legacy", "--yes", "--settle", "1ms")...)
		leave()
	}
	a.expect(clitest.Done, "fleet", "list")
	a.expect(clitest.Done, "phase", "advance")
	a.expect(clitest.Done, "backfill", "run", "--dry-run")
	a.expect(clitest.Done, "backfill", "run")
	a.expect(clitest.Done, "phase", "pause", "--reason", "a test")
	a.expect(clitest.NotYet, "phase", "advance")
	a.expect(clitest.Done, "phase", "resume")
	a.expect(clitest.Usage, "phase", "acknowledge")
	a.expect(clitest.Done, "phase", "acknowledge", "--reason", "a test")
	a.expect(clitest.Usage, "phase", "advance", "--to", "grace")
	a.lapse("shop-2")
	a.expect(clitest.Done, "fleet", "list")
	o.SQL(o.State, `INSERT INTO migrator.unreadable (migration, windows, last_at, last_why) VALUES ('products', 1, now(), 'a test')`)
	a.expect(clitest.Done, "doctor")
	a.expect(clitest.Done, "status")
	a.expect(clitest.Usage, "fleet", "evict", "shop-2")
	a.expect(clitest.Done, "fleet", "evict", "shop-2", "--reason", "it was switched off", "--dry-run")
	a.expect(clitest.Usage, "fleet", "evict", "--lapsed", "--reason", "it was switched off")
	a.expect(clitest.Done, "fleet", "evict", "--lapsed", "--reason", "it was switched off", "--dry-run")
	a.expect(clitest.Done, "fleet", "evict", "shop-2", "--reason", "it was switched off")
	a.expect(clitest.Done, "phase", "advance", "--override", "soak-time=a test")

	o.Soak()
	o.Redis("HSET", "product:7", "name", "damaged")
	o.Redis("DEL", "product:8")
	a.expect(clitest.NotYet, "reconcile", "run", "--full")
	a.expect(clitest.NotYet, "reconcile", "run", "--full", "--repair=plan")
	o.SQL(o.State, `INSERT INTO migrator.journal (migration, key, version, changes, reason, first_at, last_at)
		VALUES ('products', '8', repeat('0', 32), 1, 'a test', now(), now())`)
	a.expect(clitest.Done, "reconcile", "explain", "7")
	a.expect(clitest.Done, "reconcile", "explain", `"8"`)
	a.expect(clitest.Usage, "reconcile", "explain", "eu,7")
	a.expect(clitest.Usage, "reconcile", "explain", "seven")
	a.expect(clitest.Usage, "reconcile", "explain")
	a.expect(clitest.Usage, "reconcile", "run", "--full", "--repair=maybe")
	a.expect(clitest.Usage, "reconcile", "run", "--max-repairs", "5")
	a.expect(clitest.Usage, "reconcile", "run", "--repair", "--force", " ")
	a.expect(clitest.NotYet, "reconcile", "run", "--full", "--repair", "--max-repairs", "100", "--repair-rate", "50")
	a.expect(clitest.Done, "reconcile", "run")
	a.expect(clitest.Done, "reconcile", "run", "--full")
	a.expect(clitest.Done, "phase", "advance", "--dry-run", "--override", "approved=a test")
	orphan := `UPDATE migrator.reconcile_runs SET status = 'running', finished_at = NULL WHERE id = (SELECT max(id) FROM migrator.reconcile_runs)`
	o.SQL(o.State, orphan)
	a.expect(clitest.Done, "reconcile", "pause", "--reason", "a test", "--dry-run")
	a.expect(clitest.Done, "reconcile", "pause", "--reason", "a test")
	a.expect(clitest.Done, "reconcile", "resume", "--dry-run")
	a.expect(clitest.Done, "reconcile", "resume")
	a.expect(clitest.Usage, "reconcile", "pause")
	a.worker()
	a.expect(clitest.Done, "reconcile", "list")
	o.SQL(o.State, `INSERT INTO migrator.reconcile_schedule (migration, kind, expr, due_at, outcome, run) VALUES ('products', 'sampled', '0 2 * * *', now(), 'done', 1)`)
	a.expect(clitest.Done, "reconcile", "schedule")
	a.expect(clitest.Done, "reconcile", "show", "1")
	a.expect(clitest.Error, "reconcile", "show", "999")
	a.expect(clitest.NotYet, "gate", "list", "--evaluate")
	a.expect(clitest.Done, "gate", "explain", "smoke")
	a.expect(clitest.Usage, "gate", "explain", "nosuch")
	a.expect(clitest.Usage, "gate", "explain")
	a.expect(clitest.Done, "trigger", "list")
	a.expect(clitest.Done, "trigger", "test", "--since", "1h")
	a.expect(clitest.Usage, "trigger", "test", "--since", "0s")
	a.expect(clitest.Done, "trigger", "acknowledge", "--reason", "a test")
	a.expect(clitest.Usage, "trigger", "acknowledge")
	a.expect(clitest.Done, "target", "claim", "--yes")
	a.expect(clitest.Usage, "target", "claim", "products")
	a.expect(clitest.Done, "phase", "approve", "--reason", "looks good")
	a.expect(clitest.Done, "phase", "status")
	a.expect(clitest.Done, "phase", "advance") // cutover
	a.runbooks()
	o.Soak()
	a.expect(clitest.Done, "reconcile", "run", "--full")
	a.expect(clitest.Done, "phase", "advance") // grace
	o.Soak()
	a.expect(clitest.Done, "reconcile", "run", "--full")
	a.expect(clitest.Done, "phase", "approve")
	a.expect(clitest.Done, "phase", "advance") // retain
	a.expect(clitest.Done, "status")
	a.expect(clitest.Usage, "legacy", "raise-era")
	a.expect(clitest.Done, "phase", "rollback", "--rehearse")
	a.expect(clitest.Usage, "phase", "rollback", "--rehearse", "--set-aside")
	a.expect(clitest.Usage, "phase", "rollback", "--rehearse", "--accept-missing", "3")
	o.SQL(o.Legacy, `ALTER TABLE products ADD CHECK (name <> 'refused') NOT VALID`)
	a.written("7", "refused")
	a.expect(clitest.NotYet, "rollback", "--rehearse")
	a.expect(clitest.Usage, "rollback")
	a.expect(clitest.NotYet, "rollback", "--yes")
	a.expect(clitest.NotYet, "rollback", "--dry-run")
	a.written("7", "Product 7")
	a.expect(clitest.Done, "phase", "rollback", "--to", "grace", "--yes")
	a.expect(clitest.Done, "phase", "rollback", "--to", "grace")
	if err := a.reportLoss(phases.Route{Phase: phases.Grace, Epoch: 100}); err != nil {
		a.t.Fatal(err)
	}
	a.expect(clitest.Done, "status")
	a.expect(clitest.Usage, "doctor")
	a.expect(clitest.Usage, "phase", "reclaim")
	a.expect(clitest.Usage, "phase", "reclaim", "--reason", "test")
	a.expect(clitest.Done, "phase", "reclaim", "--reason", "test", "--dry-run")
	a.expect(clitest.Done, "phase", "reclaim", "--reason", "test", "--yes")
	a.expect(clitest.Done, "legacy", "raise-era", "--dry-run")
	a.expect(clitest.Done, "legacy", "raise-era", "--yes")
	a.expect(clitest.Done, "forget", "products", "--dry-run")
	a.expect(clitest.Usage, "forget", "products", "--yes", "--reason", "a test") // not in this phase
	a.expect(clitest.Done, "phase", "history")
	a.expect(clitest.Done, "phase", "history", "--verify")
	a.expect(clitest.Done, "history", "verify")
	o.Keys("anchor")
	lines := o.Path("anchors")
	a.expect(clitest.Usage, "history", "anchor")
	a.expect(clitest.Done, "history", "anchor", "--key", o.Path("anchor.key"), "--out", lines)
	a.expect(clitest.Usage, "history", "verify", "--anchor", lines)
	a.expect(clitest.Done, "history", "verify", "--anchor", lines, "--public-key", o.Path("anchor.pub"))
	o.SQL(o.State, `ALTER TABLE migrator.history DISABLE TRIGGER append_only; UPDATE migrator.history SET reason = 'nothing' WHERE seq = 3`)
	a.expect(clitest.Error, "history", "verify")

	o.Write("migration.yaml", "name: products\nlegacy: {store: postgres, url_file: legacy.url, table: nosuch}\ntarget: {store: redis, url_file: target.url, key: 'p:{id}'}\n")
	a.expect(clitest.Usage, "plan")
	a.expect(clitest.Usage, "doctor")
	a.expect(clitest.Usage, "reconcile", "run") // not what is applied
	o.SQL(o.State, orphan)
	a.expect(clitest.Done, "reconcile", "cancel", "--dry-run")
	a.expect(clitest.Done, "reconcile", "cancel")
	a.expect(clitest.Done, "reconcile", "cancel") // it is cancelled already
	a.expect(clitest.Usage, "reconcile", "cancel", "nosuch")
}

// runbooks renders, verifies and runs runbooks, without moving anything.
func (a *audit) runbooks() {
	text := "---\nname: test\ntitle: A test\n---\n\n```sh {#ok .check}\ntrue\n```\n\n```text {#go .approve timeout=50ms}\nShall we?\n```\n"
	a.o.Write("good.md", text)
	a.o.Write("wanting.md", text+"\n```sh {#bad .check}\nno-such-program\n```\n")
	a.o.Write("wrong.md", text+"\n```sh {#bad .chek}\ntrue\n```\n")
	a.expect(clitest.Done, "runbook", "schema")
	a.expect(clitest.Done, "runbook", "render", "rollback")
	a.expect(clitest.Usage, "runbook", "render", "retire")
	a.expect(clitest.Done, "runbook", "verify")
	a.expect(clitest.NotYet, "runbook", "verify", a.o.Path("wanting.md"))
	a.expect(clitest.Usage, "runbook", "verify", a.o.Path("wrong.md"))
	a.expect(clitest.NotYet, "runbook", "run", a.o.Path("good.md")) // it waits for approval
	a.expect(clitest.NotYet, "runbook", "resume", "1")
	a.expect(clitest.NotYet, "runbook", "run", a.o.Path("good.md")) // it has not ended
	a.expect(clitest.Done, "runbook", "approve", "1", "go", "--dry-run")
	a.expect(clitest.Done, "runbook", "approve", "1", "go", "--reason", "looks good")
	a.expect(clitest.Done, "runbook", "approve", "1", "go") // it is approved already
	a.expect(clitest.NotYet, "runbook", "approve", "1", "nosuch")
	a.expect(clitest.Done, "runbook", "resume", "1", "--dry-run")
	a.expect(clitest.Done, "runbook", "resume", "1")
	a.expect(clitest.Done, "runbook", "list")
	a.expect(clitest.Done, "runbook", "show", "1")
	a.expect(clitest.Error, "runbook", "show", "99")
	a.expect(clitest.Usage, "runbook", "show")
	a.expect(clitest.Done, "runbook", "export", "1")
	a.o.Write("fails.md", "---\nname: fails\ntitle: It fails\n---\n\n```sh {#bad .check}\nfalse\n```\n")
	a.expect(clitest.Error, "runbook", "run", a.o.Path("fails.md"))
	a.expect(clitest.Usage, "runbook", "run", a.o.Path("nosuch.md"))
}

// reportLoss reports an epoch that the state database never had.
func (a *audit) reportLoss(route phases.Route) error {
	store, err := state.Open(a.t.Context(), a.o.State)
	if err != nil {
		return err
	}
	defer store.Close()
	return store.ReportStateLoss(a.t.Context(), "products", "test", route)
}

// join takes a lease that acknowledges nothing.
func (a *audit) join(name string, ttl time.Duration) (leave func()) {
	a.t.Helper()
	fleet, err := pgfleet.Open(a.t.Context(), a.o.State, "products", pgfleet.Options{Lease: ttl})
	if err != nil {
		a.t.Fatal(err)
	}
	store, err := state.Open(a.t.Context(), a.o.State)
	if err != nil {
		a.t.Fatal(err)
	}
	defer store.Close()
	status, err := store.Status(a.t.Context(), "products")
	if err != nil {
		a.t.Fatal(err)
	}
	grant, err := fleet.Join(a.t.Context(), dual.Identity{Instance: name, About: "a test", Moves: status.Moves})
	if err != nil {
		a.t.Fatal(err)
	}
	return func() {
		defer fleet.Close()
		if err := fleet.Leave(a.t.Context(), grant.Lease); err != nil {
			a.t.Error(err)
		}
	}
}

// written makes a write of retain as an instance does.
func (a *audit) written(key, name string) {
	a.o.SQL(a.o.State, `INSERT INTO migrator.return_journal (migration, key, changes, first_at, last_at)
		VALUES ('products', '`+key+`', 1, now(), now()) ON CONFLICT DO NOTHING`)
	store, err := state.Open(a.t.Context(), a.o.State)
	if err != nil {
		a.t.Fatal(err)
	}
	defer store.Close()
	st, err := store.Status(a.t.Context(), "products")
	if err != nil {
		a.t.Fatal(err)
	}
	version := record.MakeVersion(st.FenceEra, 0, 1).AppendText32(nil)
	a.o.Redis("HSET", "product:"+key, "name", name, "_v", string(version))
}

// lapse leaves an expired lease.
func (a *audit) lapse(name string) {
	a.t.Helper()
	a.join(name, 10*time.Millisecond)
	a.o.SQL(a.o.State, "SELECT pg_sleep(0.05)")
}

// everything finds commands that were not checked, and documented ones that do not exist.
func (a *audit) everything() {
	known, codes := documentedCommands(a.t)
	for command := range known {
		if a.c.Commands[command] == "" {
			a.t.Errorf("docs/json.md does not list %s", command)
		}
	}
	for command := range a.c.Commands {
		if bare, _, _ := strings.Cut(command, " --"); !known[bare] {
			a.t.Errorf("docs/json.md lists %s, which does not exist", command)
		} else if !a.seen[command] && !strings.HasPrefix(a.c.Commands[command], "none") {
			a.t.Errorf("%s was not checked", command)
		}
	}
	for command := range known {
		for code := range a.codes[command] {
			if code == clitest.NotYet && !codes[command][code] {
				a.t.Errorf("%s exits with %d, which docs/cli.md does not list", command, code)
			}
		}
		for code := range codes[command] {
			if !a.codes[command][code] && command != "migrator apply" {
				a.t.Errorf("%s did not exit with %d, which docs/cli.md lists", command, code)
			}
		}
	}
}

var (
	usageLine = regexp.MustCompile("(?m)^```text\nmigrator ")
	exitsWith = regexp.MustCompile(`(?m)^Exits with ([0-9]+) if `)
)

// documentedCommands are the commands that docs/cli.md has, which is generated from the
// program, with the exit codes that have a meaning of their own there.
func documentedCommands(t *testing.T) (known map[string]bool, codes map[string]map[int]bool) {
	t.Helper()
	known, codes = map[string]bool{}, map[string]map[int]bool{}
	for _, section := range strings.Split(clitest.Docs(t)["docs/cli.md"], "\n#")[1:] {
		head, body, _ := strings.Cut(section, "\n")
		command := strings.TrimLeft(head, "# ")
		if command == "migrator" || !usageLine.MatchString(body) || strings.HasPrefix(command, "migrator completion") {
			continue
		}
		known[command], codes[command] = true, map[int]bool{}
		for _, m := range exitsWith.FindAllStringSubmatch(body, -1) {
			code, _ := strconv.Atoi(m[1])
			codes[command][code] = true
		}
	}
	if len(known) < 20 {
		t.Fatalf("docs/cli.md has only %d commands", len(known))
	}
	return known, codes
}

// drills checks the documents of the drill commands, on a separate migration.
func (a *audit) drills() {
	before := a.o
	defer func() { a.o = before }()
	a.o = clitest.New(a.t, "products", "  table: products\n", "  key: product:{id}\n", clitest.Staged)
	a.o.SQL(a.o.Legacy, `CREATE TABLE products (id bigint PRIMARY KEY, name text); INSERT INTO products VALUES (1, 'a')`)
	a.o.Does("init", "apply")
	a.expect(clitest.Usage, "drill", "rollback", "--fault", "fire")
	a.expect(clitest.NotYet, "drill", "rollback", "--load", "none", "--keep-daemon", "--reports", a.o.Dir)
	a.o.Passed("products")
	a.expect(clitest.Done, "drill", "list")
	a.expect(clitest.Done, "drill", "lift")
	a.o.SQL(a.o.State, `SELECT migrator.inject_fault('products', '{"id": "f", "kind": "errors", "share": 100, "reads": true}', 60000)`)
	a.expect(clitest.Done, "status")
	a.expect(clitest.Done, "drill", "lift")
	a.expect(clitest.Done, "drill", "show", "2", "--reports", a.o.Dir)
	a.expect(clitest.Usage, "drill", "show", "two")
	a.expect(clitest.Usage, "drill", "show", "2", "--reports", a.o.Path("nowhere"))
	a.expect(clitest.Error, "drill", "show", "999")
	a.o.Keys("drill")
	file := a.o.Path("signed.json")
	a.expect(clitest.Usage, "drill", "export", "2")
	a.expect(clitest.Usage, "drill", "export", "2", "--out", file, "--key", a.o.Path("drill.pub"))
	a.expect(clitest.NotYet, "drill", "export", "1", "--out", file, "--key", a.o.Path("drill.key"))
	a.expect(clitest.Done, "drill", "export", "2", "--out", file, "--key", a.o.Path("drill.key"))
	a.expect(clitest.Usage, "drill", "import", file)
	a.expect(clitest.Usage, "drill", "import", file, "--public-key", a.o.Path("drill.key"))
	a.expect(clitest.Done, "drill", "import", file, "--public-key", a.o.Path("drill.pub"))
	a.o.SQL(a.o.State, `UPDATE migrator.migrations SET config = jsonb_set(config::jsonb, '{exclude}', '["name"]')::json, config_hash = repeat('0', 64)`)
	a.expect(clitest.NotYet, "drill", "import", file, "--public-key", a.o.Path("drill.pub"))
}

// worker checks the output of a worker that is stopped by a signal.
func (a *audit) worker() {
	a.t.Helper()
	w := a.o.Start(a.t, "worker", "-o", "json")
	testenv.Await(a.t, "the worker waits for jobs", func() bool { return strings.Contains(w.Log.String(), "waiting for jobs") })
	w.Signal(syscall.SIGTERM)
	if code := w.Exits(); code != clitest.Done {
		a.t.Errorf("%d: %s", code, w.Log.String())
	}
	a.seen["migrator worker"] = true
	if err := a.c.Document("migrator worker", []byte(w.Out.String())); err != nil {
		a.t.Error(err)
	}
}
