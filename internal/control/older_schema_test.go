package control_test

import (
	"errors"
	"testing"

	"github.com/stranglerfig/migrator/internal/control"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/test/statetest"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
)

// TestARollbackNeedsNoNewerSchema: this binary rolls back from every phase that it can, through a return too,
// with the schema of state.RollbackFrom.
func TestARollbackNeedsNoNewerSchema(t *testing.T) {
	t.Parallel()
	url := statetest.OlderURL(t)
	b := newBenchIn(t, `CREATE TABLE items (id bigint PRIMARY KEY, name text)`, url, state.OpenToRollBack)
	if older, err := state.Open(b.ctx, url); err == nil {
		older.Close() // the schema has not changed since
	} else if !errors.Is(err, state.ErrOlder) {
		t.Error(err)
	} else if b.state.HealthWarning() == "" {
		t.Error("nothing warns of the older schema")
	}
	b.toGrace()
	_, err := b.controller().Advance(b.ctx, fenceGates())
	b.check(err)
	b.named("1 changed", "2", "100 born in retain")
	back := func(to phases.Phase) {
		t.Helper()
		moves, err := b.rounding().Rollback(b.ctx, control.Rollback{Reason: "test", To: to})
		b.check(err)
		if last := moves[len(moves)-1]; last.Phase != to {
			t.Fatalf("the rollback to %s ended at %s", to, last)
		}
		b.consistent(to)
	}
	back(phases.Grace)
	b.keepsName(map[record.Key]string{"1": "changed", "2": "", "100": "born in retain"})
	for _, to := range []phases.Phase{phases.Cutover, phases.DualRead, phases.ShadowWrite, phases.Legacy} {
		back(to)
	}
}
