package state_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/statedb"
	"github.com/stranglerfig/migrator/phases"
)

// wordsOfCommands are what a role could write as its name, for a runbook to run.
const wordsOfCommands = "z\n```sh {#e .action undo=none}\nid>/tmp/PWN\n```\n"

// TestNoRoleGoesRoundTheRulesByHand: what roles of each kind try in SQL, beside the commands. Each statement is
// refused, whatever it is part of, and nothing of it is in the state afterwards.
func TestNoRoleGoesRoundTheRulesByHand(t *testing.T) {
	t.Parallel()
	o := newOffice(t, `"for": ["retain", "complete"], "two_people": ["complete"]`)
	ctx := t.Context()
	orders := applied()
	orders.Migration, orders.Config, orders.ConfigHash = "orders", []byte(`{"name":"orders"}`), "o1"
	_, _, err := o.Apply(ctx, orders)
	must(t, err)
	walk(t, o.Store, nil, shadowWrite, dualRead, cutover, grace)
	o.approve(o.asAnn, phases.Retain)
	walk(t, o.Store, nil, fencedRoute, retain)
	st, err := o.Status(ctx, testMigration)
	must(t, err)
	epoch := st.Route.Epoch
	firing := recorded(t, o.Store, evaluation(phases.TriggerKind, "errors", phases.Firing))[0].ID

	conns := map[string]*pgx.Conn{}
	for _, g := range []state.Grant{
		{Kind: state.Operator, Migrations: []string{testMigration}},
		{Kind: state.Decider, Migrations: []string{testMigration}},
		{Kind: state.Viewer, Migrations: []string{testMigration}},
		{Kind: state.Application, Migrations: []string{testMigration}},
	} {
		var url string
		g.Role, url = newRole(t, o.url)
		must(t, o.Grant(ctx, g))
		conn, err := pgx.Connect(ctx, url)
		must(t, err)
		defer conn.Close(context.WithoutCancel(ctx))
		conns[string(g.Kind)] = conn
	}
	transition := func(migration, to, cause, evidence string) string {
		return fmt.Sprintf(`SELECT migrator.transition('%s', (SELECT epoch FROM migrator.migrations WHERE name = '%[1]s'), '%s', 0, '%s', 'r', '%s', '', 0, 0, 0, 0, false, false)`, migration, to, cause, evidence)
	}
	configure := func(migration, approval, hash, moves string) string {
		return fmt.Sprintf(`SELECT migrator.change_configuration('%s', 'test', '{"name":"%[1]s","phases":{"approval":%s}}', '%s', '{}', true, 15000, 5000, '%s', 'note', 'r', '{}')`, migration, approval, hash, moves)
	}
	same := fmt.Sprintf(`{"role": "%s", "for": ["retain", "complete"], "two_people": ["complete"]}`, o.deciders)
	const denied, kind = "permission denied", "no grant of the kind"
	for _, c := range []struct{ who, statement, want string }{
		// The rules are read from the configuration, which no statement changes.
		{"operator", `UPDATE migrator.migrations SET config = jsonb_set(config::jsonb, '{phases,approval,two_people}', '[]')::json WHERE name = 'products'`, denied},
		{"operator", `UPDATE migrator.migrations SET config_hash = 'x'`, denied},
		{"operator", `UPDATE migrator.migrations SET attempt = ''`, denied},
		{"operator", `UPDATE migrator.migrations SET paused = ''`, denied},
		{"operator", `UPDATE migrator.migrations SET unclean_at = NULL, unclean_why = ''`, denied},
		{"operator", `UPDATE migrator.migrations SET history_seq = 1`, denied},
		{"operator", `UPDATE migrator.migrations SET lockable = false`, "migrations_lockable_check"},
		{"operator", `DELETE FROM migrator.migrations`, denied},
		{"operator", `INSERT INTO migrator.configurations SELECT * FROM migrator.configurations`, denied},
		{"operator", `UPDATE migrator.configurations SET config = '{}'`, denied},
		{"operator", `TRUNCATE migrator.history`, denied},
		{"operator", configure("products", `{}`, "h3", ""), "only its members may change who decides"},
		{"operator", configure("products", `{"role": "", "for": [], "two_people": []}`, "h2", ""), "only its members may change who decides"},
		// Evidence and approvals of one configuration are not those of another under its name.
		{"operator", strings.Replace(configure("products", same, "h2", ""), `"name":"products",`, `"name":"products","gates":{"custom":[]},`, 1), "stands for another configuration"},
		{"operator", `SELECT migrator.change_configuration('products', 'test', '{"name":"products","phases":{"approval":` + same + `}}', 'h3', '{}', false, 15000, 5000, '', 'note', '', '{}')`, "reversible can't be changed"},
		{"operator", `SELECT migrator.change_configuration('products', 'test', '{"name":"products","phases":{"approval":` + same + `}}', 'h3', '{}', true, 15000, 5000, '', 'columns', '', '{}')`, "attempt a1 of a fence is recorded"},
		// A move goes by transition alone, by the steps that there are, and by their causes.
		{"operator", `SELECT migrator.move(name, epoch, 'complete', 0, 'advance', 'r', '{"gates":[{"gate":"x","overridden":"because"}]}', '', 0) FROM migrator.migrations WHERE name = 'products'`, denied},
		{"operator", `SELECT migrator.change_fields('products', '{}', '', 'r', '{}')`, denied},
		{"operator", `SELECT migrator.note_entry('products', 'approve', 'r', '{}')`, denied},
		{"operator", `SELECT migrator.hold_return('products', 0, false)`, denied},
		{"operator", `SELECT migrator.first_fenced('products', 1)`, denied},
		{"operator", transition("products", "complete", "advance", `{}`), "complete needs two people"},
		{"operator", transition("products", "complete", "advance", `{"gates":[{"gate":"approved","verdict":"fail","overridden":"because"}]}`), "may override a gate"},
		{"operator", transition("products", "complete", "advance", `{"gates":[{"gate":"soak-time","verdict":"fail"}]}`), "soak-time is closed"},
		{"operator", transition("products", "complete", "rollback", `{}`), "no step of the cause rollback"},
		{"operator", transition("products", "complete", "failure", `{}`), "no step of the cause failure"},
		{"operator", transition("products", "complete", "config", `{}`), "no step of the cause config"},
		{"operator", transition("products", "complete", "created", `{}`), "no step of the cause created"},
		{"operator", transition("products", "grace", "rollback", `{}`), "no step"},
		{"operator", transition("products", "legacy", "rollback", `{}`), "no step"},
		{"operator", transition("products", "nowhere", "advance", `{}`), "no step"},
		{"operator", transition("products", "returning", "trigger", `{}`), "names the evaluation"},
		{"operator", transition("products", "returning", "trigger", `{"fired":{"trigger":"errors","evaluation":999}}`), "names the evaluation"},
		{"operator", transition("products", "returning", "rollback", fmt.Sprintf(`{"fired":{"trigger":"errors","evaluation":%d}}`, firing)), "names the evaluation"},
		{"operator", fmt.Sprintf(`SELECT migrator.transition('products', %d, 'returning', 0, 'rollback', 'r', '{}', '', -1, 0, 0, 0, false, false)`, epoch), "can't be"},
		{"operator", fmt.Sprintf(`SELECT migrator.transition('products', %d, 'returning', 0, 'rollback', 'r', '{}', '', 0, 0, 0, 0, false, false)`, epoch-1), "is in epoch"},
		{"operator", fmt.Sprintf(`SELECT migrator.transition('products', %d, 'dual-read', 10000, 'rollback', 'r', '{}', '', 0, 0, 0, 0, false, true)`, epoch), "no step"},
		// A NULL passes no check.
		{"operator", fmt.Sprintf(`SELECT migrator.transition('products', %d, 'returning', 0, 'rollback', 'r', '{}', '', 0, 0, 0, 0, false, NULL)`, epoch), "no part that is NULL"},
		{"operator", fmt.Sprintf(`SELECT migrator.transition('products', %d, 'returning', 0, 'rollback', 'r', '{}', '', NULL, 0, 0, 0, false, false)`, epoch), "no part that is NULL"},
		{"operator", `SELECT migrator.inject_fault('products', '{"id":"x"}', NULL)`, "within an hour"},
		{"operator", `SELECT migrator.intend('products', ` + fmt.Sprint(epoch) + `, 'a2')`, "from grace"},
		{"operator", `SELECT migrator.note('products', 'approve', 'r', '{}')`, "written by the command of that name"},
		{"operator", `SELECT migrator.note('products', 'loss', 'r', '{"gates":[{"gate":"x","overridden":"y"}]}')`, "has no gates"},
		{"operator", `SELECT migrator.note_return('products', 'r', '{}')`, "no return in progress"},
		{"operator", `SELECT migrator.approve('products', 'complete', '', 'r', 1000000)`, "only its members may approve"},
		{"operator", `SELECT migrator.begin_forget('products')`, "in use"},
		{"operator", `SELECT migrator.forget('products', 'r', '{}')`, "not being forgotten"},
		{"operator", `SELECT migrator.inject_fault('products', '{"id":"x"}', 9000000)`, "within an hour"},
		{"operator", `INSERT INTO migrator.history (migration, cause) VALUES ('products', 'advance')`, denied},
		{"operator", `INSERT INTO migrator.epochs (migration, epoch, phase, percent, began_at) VALUES ('products', 99, 'legacy', 0, now())`, denied},
		{"operator", `INSERT INTO migrator.approvals (migration, to_phase, epoch, config_hash, role, reason, actor, at, expires_at) VALUES ('products', 'complete', 1, 'h2', '', '', 'ann', now(), now())`, denied},
		{"operator", `INSERT INTO migrator.grants (role, kind) VALUES (session_user, 'decider')`, denied},
		{"operator", `INSERT INTO migrator.forgotten (migration, era, last_epoch, last_seq, last_hash) VALUES ('products', 1, 1, 1, '')`, denied},
		{"operator", `DELETE FROM migrator.fences`, denied},
		{"operator", `UPDATE migrator.marks SET lost_at = NULL, lost = ''`, denied},
		{"operator", `ALTER TABLE migrator.history DISABLE TRIGGER ALL`, "must be owner"},
		{"operator", `SET session_replication_role = replica`, denied},
		{"operator", `SET SESSION AUTHORIZATION ` + o.ann, denied},
		{"operator", `CREATE FUNCTION migrator.decider(text, text) RETURNS text LANGUAGE sql AS 'SELECT ''''' `, denied},
		{"operator", `DO $$ BEGIN EXECUTE format('CREATE ROLE %I LOGIN IN ROLE ` + o.deciders + `', E'` + strings.ReplaceAll(wordsOfCommands, "\n", `\n`) + `'); END $$`, denied},
		{"operator", `GRANT ` + o.deciders + ` TO current_user`, "SQLSTATE 42501"}, // in other words from 16 on
		// Evidence: finished is finished, and no role deletes a message.
		{"operator", `UPDATE migrator.evaluations SET verdict = 'pass'`, denied},
		{"operator", `DELETE FROM migrator.evaluations`, denied},
		{"operator", `INSERT INTO migrator.evaluations (migration, kind, name, at, epoch, config_hash, verdict, detail, try, dry_run, samples, value, bound, threshold) VALUES ('products', 'gate', 'x', now(), 10000, '', 'pass', '', '', false, 0, 0, 0, 0)`, "can't be"},
		{"operator", `DELETE FROM migrator.outbox`, denied},
		{"operator", `INSERT INTO migrator.outbox (migration, event, seq) VALUES ('products', 'moved', 999)`, denied},
		{"operator", `DELETE FROM migrator.drills`, denied},
		{"operator", `UPDATE migrator.drills SET actor = 'ann'`, denied},
		{"operator", `DELETE FROM migrator.runbook_verifications`, denied},
		{"operator", `DELETE FROM migrator.runbook_runs`, denied},
		{"operator", `UPDATE migrator.reconcile_runs SET began_at = now(), config_hash = 'h2'`, denied},
		{"operator", `DELETE FROM migrator.reconcile_runs`, denied},
		{"operator", `DELETE FROM migrator.backfills`, denied},
		// The grant is of one migration.
		{"operator", `SELECT migrator.pause('orders', 'p', 'p')`, kind},
		{"operator", transition("orders", "shadow-write", "advance", `{}`), kind},
		{"operator", configure("orders", `{}`, "o2", ""), kind},
		{"operator", `SELECT migrator.create_migration('third', 'test', '{}', 'x', '{}', true, 15000, 5000, '')`, kind},
		{"operator", `SELECT migrator.note('orders', 'loss', 'r', '{}')`, kind},
		{"operator", `SELECT migrator.mark_unclean('orders', 'r')`, kind},
		{"operator", `SELECT migrator.evict('orders', 'i', 'r', false)`, kind},
		{"operator", `SELECT migrator.prune('orders')`, kind},
		{"operator", `SELECT migrator.note_server()`, kind},
		{"operator", `INSERT INTO migrator.evaluations (migration, kind, name, at, epoch, config_hash, verdict, detail, try, dry_run, samples, value, bound, threshold) VALUES ('orders', 'gate', 'x', now(), 1, '', 'pass', '', '', false, 0, 0, 0, 0)`, "row-level security"},
		{"operator", `INSERT INTO migrator.drills (migration, environment, config_hash, rehearsal, began_at) VALUES ('orders', 'staging', 'x', 'x', now())`, "row-level security"},
		{"operator", `INSERT INTO migrator.outbox (migration, event, topic) VALUES ('orders', 'held', 'x')`, "row-level security"},
		// A decider decides, and does not operate.
		{"decider", transition("products", "returning", "rollback", `{}`), denied},
		{"decider", `SELECT migrator.approve('products', 'complete', '', 'r', 1000000)`, "only its members may approve"},
		{"decider", `SELECT migrator.approve('orders', 'complete', '', 'r', 1000000)`, kind},
		{"decider", `INSERT INTO migrator.evaluations (migration, kind) VALUES ('products', 'gate')`, denied},
		{"decider", `SELECT * FROM migrator_river.river_job`, denied},
		{"viewer", `SELECT migrator.pause('products', 'p', 'p')`, denied},
		{"viewer", `SELECT migrator.acknowledge('products', 'p', '{}')`, denied},
		{"viewer", `SELECT FROM migrator.migrations FOR UPDATE`, denied},
		{"viewer", `INSERT INTO migrator.outbox (migration, event, topic) VALUES ('products', 'held', 'x')`, denied},
		{"application", `SELECT * FROM migrator.history`, denied},
		{"application", `SELECT migrator.approve('products', 'complete', '', 'r', 1000000)`, denied},
		{"application", transition("products", "returning", "rollback", `{}`), denied},
	} {
		if _, err := conns[c.who].Exec(ctx, c.statement); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %s: %v, want %q", c.who, c.statement, err, c.want)
		}
	}
	// Who states something states it under its own name, at the time at which it does.
	for _, statement := range []string{
		`INSERT INTO migrator.runbook_verifications (migration, runbook, source_hash, config_hash, passed, actor, at) SELECT name, 'rollback', 'x', config_hash, true, 'ann', '2001-01-01' FROM migrator.migrations RETURNING actor, at`,
		`INSERT INTO migrator.drills (migration, environment, config_hash, rehearsal, actor, began_at, finished_at, passed, report) SELECT name, 'staging', config_hash, 'x', 'ann', '2001-01-01', now(), true, '{}' FROM migrator.migrations RETURNING actor, began_at`,
		`INSERT INTO migrator.evaluations (migration, kind, name, at, epoch, config_hash, verdict, detail, try, dry_run, samples, value, bound, threshold, actor) SELECT name, 'gate', 'consistency', '2001-01-01', epoch, config_hash, 'pass', 'd', '', false, 1, 0, 0, 0, 'ann' FROM migrator.migrations RETURNING actor, at`,
		`INSERT INTO migrator.reconcile_runs (migration, epoch, config_hash, whole, two_way, repair, slice, slices, status, began_at, finished_at, actor) SELECT name, 1, 'h1', true, true, false, 0, 1, 'done', '2001-01-01', now(), 'ann' FROM migrator.migrations RETURNING actor, began_at`,
		`INSERT INTO migrator.backfills (migration, epoch, progress, chunks, began_at) SELECT name, 1, '{}', '[]', '2001-01-01' FROM migrator.migrations RETURNING actor, began_at`,
	} {
		var actor, self string
		var at time.Time
		must(t, conns["operator"].QueryRow(ctx, `SELECT session_user`).Scan(&self))
		if err := conns["operator"].QueryRow(ctx, statement).Scan(&actor, &at); err != nil || actor != self || time.Since(at) > time.Hour {
			t.Errorf("%s: %s, %s, %v", statement, actor, at, err)
		}
	}
	if n := value[int64](t, o.Store, `SELECT count(*) FROM migrator.drills WHERE passed OR environment = 'staging'`); n != 0 {
		t.Errorf("%d drills passed by hand", n)
	}
	// Each sees the migrations that it has a grant for.
	for _, who := range []string{"operator", "decider", "viewer"} {
		for _, table := range []string{"migrations", "history", "configurations", "epochs"} {
			column := map[bool]string{true: "name", false: "migration"}[table == "migrations"]
			var names string
			if err := conns[who].QueryRow(ctx, `SELECT string_agg(DISTINCT `+column+`, ',') FROM migrator.`+table).Scan(&names); err != nil || names != testMigration {
				t.Errorf("%s sees %s in %s: %v", who, names, table, err)
			}
		}
	}
	if after, err := o.Status(ctx, testMigration); err != nil || after.Route != st.Route || after.ConfigHash != "h2" {
		t.Errorf("%+v, %v", after, err)
	}
	for _, migration := range []string{testMigration, "orders"} {
		if _, err := o.VerifyHistory(ctx, migration); err != nil {
			t.Error(err)
		}
	}
}

// TestRolesWithOddNamesAreRoles: a name is quoted wherever it is part of a statement.
func TestRolesWithOddNamesAreRoles(t *testing.T) {
	t.Parallel()
	s, dbURL := open(t)
	name := wordsOfCommands[:40] + `"; DROP TABLE migrator.history; --`
	quoted := pgx.Identifier{name}.Sanitize()
	exec(t, s, `CREATE ROLE `+quoted+` LOGIN PASSWORD 'pw'`)
	t.Cleanup(func() {
		conn, err := pgx.Connect(context.WithoutCancel(t.Context()), dbURL)
		must(t, err)
		defer conn.Close(context.WithoutCancel(t.Context()))
		_, err = conn.Exec(context.WithoutCancel(t.Context()), `DROP OWNED BY `+quoted+` CASCADE; DROP ROLE `+quoted)
		must(t, err)
	})
	must(t, s.Grant(t.Context(), state.Grant{Kind: state.Decider, Role: name, Migrations: []string{"other"}}))
	conn, err := pgx.Connect(t.Context(), as(t, dbURL, name, "pw"))
	must(t, err)
	defer conn.Close(context.WithoutCancel(t.Context()))
	_, err = conn.Exec(t.Context(), `SELECT migrator.pause('products', 'p', 'p')`)
	if err = statedb.Explain(err); err == nil || !strings.Contains(err.Error(), "decider") {
		t.Error(err)
	}
}

// TestTwoPeopleEndTheRuleOfTwo: with no role that decides, any operator may change the rules, but not alone that two
// must agree.
func TestTwoPeopleEndTheRuleOfTwo(t *testing.T) {
	t.Parallel()
	s, dbURL := open(t)
	ctx := t.Context()
	two := applied()
	two.ConfigHash, two.Config = "h2", []byte(`{"name":"products","phases":{"approval":{"for":["complete"],"two_people":["complete"]}}}`)
	_, _, err := s.Apply(ctx, two)
	must(t, err)
	walk(t, s, nil, shadowWrite)
	var people []*state.Store
	for range 2 {
		role, url := newRole(t, dbURL)
		must(t, s.GrantOperator(ctx, role))
		as, err := state.Open(ctx, url)
		must(t, err)
		defer as.Close()
		people = append(people, as)
	}
	one := two
	one.ConfigHash, one.Config = "h3", []byte(`{"name":"products","phases":{"approval":{"for":["complete"]}}}`)
	alone := func() error { _, _, err := people[0].Apply(ctx, one); return err }
	if err := alone(); err == nil || !strings.Contains(err.Error(), "so does ending that") {
		t.Errorf("alone: %v", err)
	}
	_, err = people[0].Approve(ctx, testMigration, phases.Complete, "", time.Hour, "mine")
	must(t, err)
	if err := alone(); err == nil || !strings.Contains(err.Error(), "so does ending that") || !strings.Contains(err.Error(), "the approval of complete by ") {
		t.Errorf("with an approval of one's own: %v", err)
	}
	_, err = people[1].Approve(ctx, testMigration, phases.Complete, "", time.Hour, "agreed")
	must(t, err)
	must(t, alone())
}

// TestAReclaimPassesNoRuleOfTwo: it goes from any phase to grace, for a fence that the state has lost and can't
// see. An operator who claims one does not get past phases that need a decider's, or two people's, approval.
func TestAReclaimPassesNoRuleOfTwo(t *testing.T) {
	t.Parallel()
	o := newOffice(t, `"for": ["cutover", "grace"], "two_people": ["cutover"]`)
	ctx := t.Context()
	walk(t, o.Store, nil, shadowWrite)
	reclaim := func(as *state.Store) error {
		_, err := as.Transition(ctx, testMigration, func(e phases.Snapshot) (phases.Move, error) {
			return phases.Move{From: e.Status.Route, To: phases.Route{Phase: phases.Returning}, Cause: phases.CauseRollback, Reclaim: true}, nil
		})
		return err
	}
	if err := reclaim(o.asMa); err == nil || !strings.Contains(err.Error(), "may reclaim past phases") {
		t.Errorf("by an operator: %v", err)
	}
	if err := reclaim(o.asAnn); err == nil || !strings.Contains(err.Error(), "needs two people") {
		t.Errorf("by one decider: %v", err)
	}
	o.approve(o.asAnn, phases.Grace)
	if err := reclaim(o.asAnn); err == nil || !strings.Contains(err.Error(), "needs two people: in this epoch, under this configuration, the approval of grace by "+o.ann+" does not count") {
		t.Errorf("with an approval of one's own: %v", err)
	}
	o.approve(o.asBob, phases.Grace)
	must(t, reclaim(o.asAnn))
}

// TestAReclaimGivenUpEntersRetain, and needs what that needs, unless its return began there.
func TestAReclaimGivenUpEntersRetain(t *testing.T) {
	t.Parallel()
	o := newOffice(t, `"for": ["retain"], "two_people": []`)
	to := func(as *state.Store, phase phases.Phase, reclaim bool) error {
		_, err := as.Transition(t.Context(), testMigration, func(e phases.Snapshot) (phases.Move, error) {
			return phases.Move{From: e.Status.Route, To: phases.Route{Phase: phase}, Cause: phases.CauseRollback, Reclaim: reclaim, Attempt: e.Status.Attempt}, nil
		})
		return err
	}
	walk(t, o.Store, nil, shadowWrite, dualRead, cutover, grace)
	must(t, to(o.asMa, phases.Returning, true))
	if err := to(o.asMa, phases.Retain, false); err == nil || !strings.Contains(err.Error(), "retain needs an approval") {
		t.Errorf("given up from grace: %v", err)
	}
	must(t, to(o.asMa, phases.Grace, false))
	o.approve(o.asAnn, phases.Retain)
	walk(t, o.Store, nil, fencedRoute, retain)
	must(t, to(o.asMa, phases.Returning, false))
	must(t, to(o.asMa, phases.Retain, false))
}
