//go:build unix

package crash

import (
	"testing"

	"github.com/stranglerfig/migrator/examples/embedding"
)

// roles are the roles that init grants privileges to.
const roles = `CREATE ROLE crash_app; CREATE ROLE crash_operator`

// customers are long rows, so that the table has several chunks.
const customers = embedding.Schema + `;
	INSERT INTO customers SELECT i, repeat('x', 400) || i, NULL, 1000 + i, '2026-01-01' FROM generate_series(1, 60) i`

// stage is a migration in progress, made once from a copy of the stage before: by commands, or
// by a killed command.
type stage struct {
	name, from string
	lines      []string // of migrator
	killed     string   // the failpoint at which the last line is killed; "": none
	inputs     []string // to an application afterwards
}

func stages() []stage {
	return []stage{
		{name: "empty"},
		{name: "init", from: "empty", lines: []string{"init"}},
		{name: "legacy", from: "init", lines: []string{"apply"}},
		{name: "shadow-write", from: "legacy", lines: []string{"phase advance"}},
		{name: "filled", from: "shadow-write", lines: []string{"backfill run"}, inputs: []string{"put 1 11", "remove 2", "put 101 12"}},
		{name: "dual-read", from: "filled", lines: []string{"phase advance", "reconcile run --full"}, inputs: []string{"put 1 21", "remove 3"}},
		{name: "cutover", from: "dual-read", lines: []string{"phase advance", "reconcile run --full"}, inputs: []string{"put 1 31", "remove 4", "put 102 32"}},
		{name: "grace", from: "cutover", lines: []string{"phase advance", "reconcile run --full"}, inputs: []string{"put 1 41", "remove 5"}},
		{name: "retain", from: "grace", lines: []string{"phase advance"}, inputs: []string{"put 1 51", "remove 6", "put 103 52", "put 8 53"}},
		{name: "intended", from: "grace", lines: []string{"phase advance"}, killed: "control.fence.intended"},
		{name: "raised", from: "grace", lines: []string{"phase advance"}, killed: "control.fence.raised"},
		{name: "fenced", from: "grace", lines: []string{"phase advance"}, killed: "control.fence.fenced"},
	}
}

// prepare makes the stages.
func (w *world) prepare(t *testing.T) {
	t.Helper()
	w.admin(t, roles)
	for _, s := range stages() {
		var p *place
		if s.from == "" {
			p = w.copyOf(t, nil)
			p.mustSQL(customers)
			p.ledger = ledger{map[int64]int{}, map[int64]int{}}
			for i := range int64(60) {
				p.ledger.points[i+1] = 1001 + int(i)
			}
		} else {
			p = w.copyOf(t, w.stages[s.from])
		}
		for n, line := range s.lines {
			at := ""
			if n == len(s.lines)-1 {
				at = s.killed
			}
			if at != "" {
				p.kill(at, 1, line)
			} else if code := p.run(line); code != 0 {
				t.Fatalf("stage %s: migrator %s exit code %d\n%s", s.name, line, code, p.transcript.String())
			}
		}
		if s.inputs != nil {
			a := p.open("", 0)
			for _, line := range s.inputs {
				a.must(line)
			}
			a.leave()
		}
		p.close()
		w.stages[s.name] = p
	}
}
