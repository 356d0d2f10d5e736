//go:build unix

package crash

import (
	"syscall"

	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/phases"
)

// scenario leads a process to one failpoint.
type scenario struct {
	from  string       // the initial stage
	setup func(*place) // runs first
	line  string       // the killed command; {attempt} and {lapsed} are replaced
	visit int          // the number of the visit; 0: the first

	app    []string // lines for the application, which is killed instead; a last "leave" ends its input
	beside string   // a command that runs beside it

	again []string // what an operator runs next; nil: the same command
	to    phases.Phase
	file  string // another migration file
	fresh bool   // there is no migration yet at the kill, and nothing to roll back
}

// scenarios returns the scenarios by failpoint.
func scenarios() map[string]scenario {
	all := map[string]scenario{}
	each := func(s scenario, names ...string) {
		for _, name := range names {
			all[name] = s
		}
	}

	const initialise = "init --grant-application crash_app --grant-operator crash_operator"
	created := scenario{from: "empty", line: initialise, again: []string{initialise, "apply"}, to: phases.Legacy, fresh: true}
	each(created, "state.init.schema", "init.migrated", "state.grant.committed")
	created.visit = 3
	each(created, "state.init.step")
	each(scenario{from: "init", line: "apply", to: phases.Legacy, fresh: true},
		"postgres.install.committed", "apply.installed", "apply.prepared", "apply.recorded", "mark.placed", "mark.claimed", "mark.beat")
	each(scenario{from: "retain", setup: (*place).loseState, line: "apply --lift-fence {attempt}", to: phases.Legacy, fresh: true},
		"apply.unfenced")

	forget := scenario{
		from: "filled", line: "forget customers --yes --delete-records",
		again: []string{"forget customers --yes --delete-records", "forget customers --yes", "apply"}, to: phases.Legacy, fresh: true,
	}
	each(forget, "state.forget.begun", "forget.records", "forget.target", "forget.era", "postgres.forget.legacy", "state.forget.committed")
	forget.from, forget.file, forget.setup = "init", "purge.yaml", (*place).oldTombstones
	each(forget, "postgres.forget.target")

	each(scenario{
		from: "shadow-write", setup: (*place).leftOver, line: "backfill run",
		again: []string{"backfill run", "phase advance --to dual-read"}, to: phases.DualRead,
	}, "replicate.begun", "replicate.barrier.taken", "replicate.barrier.saved", "replicate.chunks.saved",
		"replicate.batch.applied", "replicate.chunk.applied", "replicate.chunk.saved", "replicate.swept", "replicate.finished")

	each(scenario{from: "filled", line: "phase advance --to dual-read", to: phases.DualRead},
		"control.advance.decided", "control.advance.moved", "state.transition.committed")
	each(scenario{from: "cutover", line: "rollback --to legacy --yes", to: phases.Legacy},
		"control.rollback.moved", "control.rollback.settled")

	book := scenario{from: "cutover", line: "runbook run rollback", again: []string{"runbook resume 1"}, to: phases.DualRead, visit: 2}
	each(book, "runbook.intent.kept", "runbook.outcome.due", "runbook.outcome.kept")
	book.visit = 0
	each(book, "runbook.acted")

	each(scenario{from: "grace", line: "phase advance --to retain", to: phases.Retain},
		"control.fence.intended", "postgres.fence.era", "postgres.fence.committed", "control.fence.raised",
		"control.fence.fenced", "control.fence.settled", "control.fence.retained")
	each(scenario{from: "intended", line: "rollback --to grace --yes", to: phases.Grace}, "control.void.voided")
	each(scenario{from: "raised", line: "rollback --yes", to: phases.DualRead}, "control.rollback.unfenced")
	each(scenario{from: "raised", line: "rollback --to grace --yes", to: phases.Grace}, "control.lift.lifting", "postgres.lift.era")
	each(scenario{from: "fenced", line: "rollback --to grace --yes", to: phases.Grace}, "postgres.lift.committed", "control.lift.lifted")
	each(scenario{from: "retain", line: "rollback --to grace --yes", to: phases.Grace},
		"control.return.held", "control.return.begun", "control.return.replayed", "control.return.written", "control.return.cleared", "control.return.lifted", "control.return.emptied")
	each(scenario{from: "retain", setup: (*place).manyListed, line: "rollback --to grace --yes", to: phases.Grace},
		"control.return.copied", "control.return.marked", "control.return.round")
	each(scenario{from: "retain", setup: (*place).refuse, line: "rollback --to grace --yes --set-aside", to: phases.Grace},
		"control.return.final", "control.return.set-aside")
	each(scenario{from: "retain", setup: (*place).refuseOnce, line: "rollback --to grace --yes", to: phases.Grace},
		"control.return.renewed", "control.return.given-up")

	const serve = "serve --listen 127.0.0.1:0"
	each(scenario{from: "fenced", line: serve, again: []string{"serve"}, to: phases.Grace}, "server.keeper.overdue")
	each(scenario{from: "grace", line: serve, again: []string{"serve"}, to: phases.Grace}, "state.leader.elected")
	each(scenario{from: "grace", setup: (*place).unmark, line: serve, again: []string{"serve", "target claim --yes"}, to: phases.DualRead}, "mark.lost")
	each(scenario{from: "grace", setup: (*place).restarted, line: serve, again: []string{"serve"}, to: phases.DualRead}, "mark.suspected")
	each(scenario{from: "grace", setup: (*place).crashed, line: serve, again: []string{"serve"}, to: phases.DualRead}, "legacy.lost", "legacy.raised")
	each(scenario{from: "init", file: "purge.yaml", setup: (*place).oldTombstones, line: serve, again: []string{"serve"}, to: phases.Legacy},
		"postgres.purge.batch")

	each(scenario{from: "cutover", setup: (*place).damage, line: "reconcile run --full --repair", to: phases.Cutover},
		"repair.read", "repair.applied", "reconcile.journal.cleared", "reconcile.begun", "reconcile.fixed",
		"reconcile.compared", "reconcile.saved", "reconcile.finished", "reconcile.shared", "state.job.taken", "state.job.compared", "state.job.done")
	each(scenario{from: "dual-read", setup: (*place).lapse, line: "fleet evict {lapsed} --reason killed", to: phases.DualRead},
		"state.evict.committed")

	put := []string{"put 7 70"}
	each(scenario{from: "filled", app: put, to: phases.ShadowWrite}, "dual.queue.taken", "dual.queue.applied")
	each(scenario{from: "filled", setup: (*place).occupy, app: put, to: phases.ShadowWrite}, "dual.pending.journalled")
	each(scenario{from: "cutover", app: put, to: phases.Cutover}, "dual.write.legacy", "dual.write.applied")
	each(scenario{from: "cutover", setup: (*place).occupy, app: put, to: phases.Cutover}, "dual.settle.journalled")
	each(scenario{from: "grace", setup: (*place).cutOff, app: put, to: phases.DualRead},
		"state.rescue.committed", "dual.rescue.committed", "dual.rescue.settled")
	each(scenario{from: "retain", app: put, to: phases.Retain}, "dual.retain.journalled", "dual.retain.written")
	each(scenario{from: "cutover", app: append(put, "leave"), to: phases.Cutover}, "dual.leave.drained", "state.leave.committed")
	each(scenario{from: "filled", app: []string{}, beside: "phase advance --to dual-read", to: phases.DualRead}, "state.renew.acknowledged")
	return all
}

// loseState removes the state database while legacy is fenced. Writes since the fence are in
// the target alone.
func (p *place) loseState() {
	p.mustSQL("CREATE TABLE identity AS TABLE migrator.identity; DROP SCHEMA migrator CASCADE")
	p.mustRun("init")
	p.mustSQL("DELETE FROM migrator.identity; INSERT INTO migrator.identity TABLE identity; DROP TABLE identity") // else the target is another's
	p.ledger = p.w.stages["grace"].ledger.clone()
}

// unmark removes the target's marks, as an older file of Redis would.
func (p *place) unmark() {
	for _, name := range p.client().Keys(p.t.Context(), "migrator:v:{*}?mark:*").Val() {
		p.redisDo("DEL", name)
	}
}

// restarted makes the target's server another one than was seen before.
func (p *place) restarted() {
	p.mustSQL(`INSERT INTO migrator.servers_seen (migration, side, seen, seen_at) SELECT name, 'target', 'another', now() FROM migrator.migrations
		ON CONFLICT (migration, side) DO UPDATE SET seen = 'another'`)
}

// crashed leaves legacy as PostgreSQL does that recovers from a crash.
func (p *place) crashed() { p.mustSQL("TRUNCATE migrator_legacy.alive") }

// manyListed lists as many keys as a round copies. They were never written.
func (p *place) manyListed() {
	p.mustSQL(`INSERT INTO migrator.return_journal (migration, key, changes, first_at, last_at)
		SELECT 'customers', convert_to((100000 + i)::text, 'UTF8'), 1, now(), now() FROM generate_series(1, 600) i`)
}

// refuse makes legacy refuse a record that was written in retain, which is to be set aside.
func (p *place) refuse() {
	p.mustSQL("ALTER TABLE customers ADD CHECK (points <> 53) NOT VALID")
	p.ledger.points[8] = 1008
}

// refuseOnce makes legacy refuse it in the first run of copies only, once the return has begun.
func (p *place) refuseOnce() {
	p.mustSQL(`CREATE FUNCTION refuse_once() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
			IF NEW.points = 53 AND (SELECT run FROM migrator_legacy.migration) < 2 THEN RAISE EXCEPTION 'refused'; END IF;
			RETURN NEW;
		END $$;
		CREATE TRIGGER refuse_once BEFORE INSERT OR UPDATE ON customers FOR EACH ROW EXECUTE FUNCTION refuse_once();
		SELECT migrator.move(name, epoch, 'returning', 0, 'rollback', 'a test', '{}', attempt, 0) FROM migrator.migrations`)
}

// leftOver adds an entry from an earlier phase, which the sweep must remove.
func (p *place) leftOver() {
	p.redisDo("HSET", "customer:999", "id", "999", "email", "left@over", "points", "1", "changed", "2026-01-01T00:00:00Z")
}

// cutOff keeps the killed application from its target.
func (p *place) cutOff() { p.targetAway = true }

// occupy makes the target refuse customer 7, which is that write's own fault.
func (p *place) occupy() {
	p.redisDo("DEL", "customer:7")
	p.redisDo("SET", "customer:7", "another application's")
}

// damage makes the stores differ without migrator; one key is journaled.
func (p *place) damage() {
	p.mustSQL(`UPDATE customers SET points = 71 WHERE id = 10; DELETE FROM customers WHERE id = 11;
		INSERT INTO customers VALUES (110, 'new', NULL, 72, '2026-01-01');
		UPDATE customers SET points = 73 WHERE id = 12;
		INSERT INTO migrator.journal (migration, key, version, changes, reason, first_at, last_at)
		VALUES ('customers', '12', repeat('0', 32), 1, 'lost', now(), now())`)
	p.ledger.points[10], p.ledger.points[110], p.ledger.points[12] = 71, 72, 73
	delete(p.ledger.points, 11)
}

// lapse kills an instance.
func (p *place) lapse() {
	a := p.open("", 0)
	_ = a.cmd.Process.Signal(syscall.SIGKILL)
	_ = a.cmd.Wait()
	if !testenv.Reached(p.t.Context(), func() bool { return p.text(lapsedSQL) != "" }) {
		p.t.Fatal("its lease does not expire")
	}
}

// oldTombstones adds versions of records that were deleted long ago.
func (p *place) oldTombstones() {
	p.mustSQL("CREATE TABLE moved_customers (LIKE customers INCLUDING ALL)")
	p.mustRun("apply")
	p.mustSQL(`INSERT INTO migrator_target.customers SELECT 'gone' || i, repeat('0', 32), true, now() - interval '1 h' FROM generate_series(1, 20) i`)
}
