package main

import (
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/dual/pgfleet"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/phases"
)

func (a *audit) scenario() {
	o := a.o
	a.expect(exitUsage, "status") // no schema yet
	a.expect(exitDone, "init")
	a.expect(exitDone, "plan")
	a.expect(exitDone, "doctor")
	a.expect(exitUsage, "status") // nothing applied
	a.expect(exitDone, "apply")
	a.expect(exitDone, "version")
	a.drills()
	for _, sub := range []string{"schema", "settings", "show", "validate"} {
		a.expect(exitDone, "config", sub)
	}
	a.expect(exitNotYet, "backfill", "run")
	for _, rollback := range [][]string{{"phase", "rollback"}, {"rollback"}} {
		leave := a.join("shop-1", time.Hour)
		a.expect(exitNotYet, "phase", "advance", "--settle", "1ms") // it never acknowledges
		a.expect(exitNotYet, append(rollback, "--settle", "1ms")...)
		leave()
	}
	a.expect(exitDone, "fleet", "list")
	a.expect(exitDone, "phase", "advance")
	a.expect(exitDone, "backfill", "run")
	a.expect(exitDone, "phase", "pause", "--reason", "a test")
	a.expect(exitNotYet, "phase", "advance")
	a.expect(exitDone, "phase", "resume")
	a.expect(exitUsage, "phase", "acknowledge")
	a.expect(exitDone, "phase", "acknowledge", "--reason", "a test")
	a.expect(exitUsage, "phase", "advance", "--to", "grace")
	a.lapse("shop-2")
	a.expect(exitDone, "fleet", "list")
	a.expect(exitDone, "doctor")
	a.expect(exitDone, "status")
	a.expect(exitUsage, "fleet", "evict", "shop-2")
	a.expect(exitDone, "fleet", "evict", "shop-2", "--reason", "it was switched off")
	a.expect(exitDone, "phase", "advance", "--override", "soak-time=a test")

	o.soak()
	o.redis("HSET", "product:7", "name", "damaged")
	o.redis("DEL", "product:8")
	a.expect(exitNotYet, "reconcile", "run", "--full")
	a.expect(exitNotYet, "reconcile", "run", "--full", "--repair=plan")
	o.sql(o.state, `INSERT INTO migrator.journal (migration, key, version, changes, reason, first_at, last_at)
		VALUES ('products', '8', repeat('0', 32), 1, 'a test', now(), now())`)
	a.expect(exitDone, "reconcile", "explain", "7")
	a.expect(exitDone, "reconcile", "explain", `"8"`)
	a.expect(exitUsage, "reconcile", "explain", "eu,7")
	a.expect(exitUsage, "reconcile", "explain", "seven")
	a.expect(exitUsage, "reconcile", "explain")
	a.expect(exitUsage, "reconcile", "run", "--full", "--repair=maybe")
	a.expect(exitUsage, "reconcile", "run", "--max-repairs", "5")
	a.expect(exitUsage, "reconcile", "run", "--repair", "--force", " ")
	a.expect(exitNotYet, "reconcile", "run", "--full", "--repair", "--max-repairs", "100", "--repair-rate", "50")
	a.expect(exitDone, "reconcile", "run")
	a.expect(exitDone, "reconcile", "run", "--full")
	a.expect(exitDone, "phase", "advance", "--dry-run", "--override", "approved=a test")
	orphan := `UPDATE migrator.reconcile_runs SET status = 'running', finished_at = NULL WHERE id = (SELECT max(id) FROM migrator.reconcile_runs)`
	o.sql(o.state, orphan)
	a.expect(exitDone, "reconcile", "pause", "--reason", "a test")
	a.expect(exitDone, "reconcile", "resume")
	a.expect(exitUsage, "reconcile", "pause")
	a.worker()
	a.expect(exitDone, "reconcile", "list")
	o.sql(o.state, `INSERT INTO migrator.reconcile_schedule (migration, kind, expr, due_at, outcome, run) VALUES ('products', 'sampled', '0 2 * * *', now(), 'done', 1)`)
	a.expect(exitDone, "reconcile", "schedule")
	a.expect(exitDone, "reconcile", "show", "1")
	a.expect(exitError, "reconcile", "show", "999")
	a.expect(exitNotYet, "gate", "list", "--evaluate")
	a.expect(exitDone, "gate", "explain", "smoke")
	a.expect(exitUsage, "gate", "explain", "nosuch")
	a.expect(exitUsage, "gate", "explain")
	a.expect(exitDone, "trigger", "list")
	a.expect(exitDone, "trigger", "test", "--since", "1h")
	a.expect(exitUsage, "trigger", "test", "--since", "0s")
	a.expect(exitDone, "trigger", "acknowledge", "--reason", "a test")
	a.expect(exitUsage, "trigger", "acknowledge")
	a.expect(exitDone, "phase", "approve", "--reason", "looks good")
	a.expect(exitDone, "phase", "status")
	a.expect(exitDone, "phase", "advance") // cutover
	a.runbooks()
	o.soak()
	a.expect(exitDone, "reconcile", "run", "--full")
	a.expect(exitDone, "phase", "advance") // grace
	o.soak()
	a.expect(exitDone, "reconcile", "run", "--full")
	a.expect(exitDone, "phase", "approve")
	a.expect(exitDone, "phase", "advance") // retain
	a.expect(exitDone, "status")
	a.expect(exitDone, "phase", "rollback", "--to", "grace")
	if err := a.witness(phases.Route{Phase: phases.Grace, Epoch: 100}); err != nil {
		a.t.Fatal(err)
	}
	a.expect(exitDone, "status")
	a.expect(exitUsage, "doctor")
	a.expect(exitUsage, "phase", "reclaim")
	a.expect(exitDone, "phase", "reclaim", "--reason", "test")
	a.expect(exitDone, "phase", "history")
	a.expect(exitDone, "phase", "history", "--verify")
	a.expect(exitDone, "history", "verify")
	o.sql(o.state, `ALTER TABLE migrator.history DISABLE TRIGGER append_only; UPDATE migrator.history SET reason = 'nothing' WHERE seq = 3`)
	a.expect(exitError, "history", "verify")

	o.write("migration.yaml", "name: products\nlegacy: {store: postgres, url_file: legacy.url, table: nosuch}\ntarget: {store: redis, url_file: target.url, key: 'p:{id}'}\n")
	a.expect(exitUsage, "plan")
	a.expect(exitUsage, "doctor")
	a.expect(exitUsage, "reconcile", "run") // not what is applied
	o.sql(o.state, orphan)
	a.expect(exitDone, "reconcile", "cancel")
	a.expect(exitUsage, "reconcile", "cancel")
}

// runbooks are written, looked at and run, without moving anything.
func (a *audit) runbooks() {
	text := "---\nname: test\ntitle: A test\n---\n\n```sh {#ok .check}\ntrue\n```\n\n```text {#go .approve timeout=50ms}\nShall we?\n```\n"
	a.o.write("good.md", text)
	a.o.write("wanting.md", text+"\n```sh {#bad .check}\nno-such-program\n```\n")
	a.o.write("wrong.md", text+"\n```sh {#bad .chek}\ntrue\n```\n")
	a.expect(exitDone, "runbook", "schema")
	a.expect(exitDone, "runbook", "render", "rollback")
	a.expect(exitUsage, "runbook", "render", "retire")
	a.expect(exitDone, "runbook", "verify")
	a.expect(exitNotYet, "runbook", "verify", a.o.path("wanting.md"))
	a.expect(exitUsage, "runbook", "verify", a.o.path("wrong.md"))
	a.expect(exitNotYet, "runbook", "run", a.o.path("good.md")) // nobody approves
	a.expect(exitNotYet, "runbook", "resume", "1")
	a.expect(exitNotYet, "runbook", "run", a.o.path("good.md")) // it has not ended
	a.expect(exitDone, "runbook", "approve", "1", "go", "--reason", "looks good")
	a.expect(exitNotYet, "runbook", "approve", "1", "go")
	a.expect(exitDone, "runbook", "resume", "1")
	a.expect(exitDone, "runbook", "list")
	a.expect(exitDone, "runbook", "show", "1")
	a.expect(exitError, "runbook", "show", "99")
	a.expect(exitUsage, "runbook", "show")
	a.expect(exitDone, "runbook", "export", "1")
	a.o.write("fails.md", "---\nname: fails\ntitle: It fails\n---\n\n```sh {#bad .check}\nfalse\n```\n")
	a.expect(exitError, "runbook", "run", a.o.path("fails.md"))
	a.expect(exitUsage, "runbook", "run", a.o.path("nosuch.md"))
}

// witness remembers an epoch that the state never had.
func (a *audit) witness(held phases.Route) error {
	store, err := state.Open(a.t.Context(), a.o.state)
	if err != nil {
		return err
	}
	defer store.Close()
	return store.Witness(a.t.Context(), "products", "test", held)
}

// join takes a lease that acknowledges nothing.
func (a *audit) join(name string, ttl time.Duration) (leave func()) {
	a.t.Helper()
	fleet, err := pgfleet.Open(a.t.Context(), a.o.state, "products", pgfleet.Options{Lease: ttl})
	if err != nil {
		a.t.Fatal(err)
	}
	grant, err := fleet.Join(a.t.Context(), dual.Identity{Instance: name, About: "a test"})
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

// lapse leaves behind a lease that has run out.
func (a *audit) lapse(name string) {
	a.t.Helper()
	a.join(name, 10*time.Millisecond)
	a.o.sql(a.o.state, "SELECT pg_sleep(0.05)")
}

// everything finds commands that were not looked at, and ones that there are not.
func (a *audit) everything() {
	var walk func(*cobra.Command)
	known := map[string]bool{}
	walk = func(cmd *cobra.Command) {
		if cmd.Hidden || cmd.Name() == "completion" || cmd.Name() == "help" {
			return
		}
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
		if !cmd.HasSubCommands() || cmd.Name() == "demo" {
			known[cmd.CommandPath()] = true
		}
	}
	walk(newRoot(&cli{}))
	for command := range known {
		if a.c.commands[command] == "" {
			a.t.Errorf("docs/json.md does not know %s", command)
		}
	}
	for command := range a.c.commands {
		if bare, _, _ := strings.Cut(command, " --"); !known[bare] {
			a.t.Errorf("docs/json.md knows %s, which there is not", command)
		} else if !a.seen[command] && !strings.HasPrefix(a.c.commands[command], "none") && command != "migrator demo" {
			// That one takes minutes; its type was compared.
			a.t.Errorf("%s was not looked at", command)
		}
	}
	for command := range known {
		for code := range a.codes[command] {
			if code == exitNotYet && exitCodes()[command][code] == "" {
				a.t.Errorf("%s exits with %d, which docs/cli.md does not say", command, code)
			}
		}
		for code := range exitCodes()[command] {
			if !a.codes[command][code] && command != "migrator demo" && command != "migrator apply" {
				a.t.Errorf("%s was not seen to exit with %d, as docs/cli.md says", command, code)
			}
		}
	}
}
