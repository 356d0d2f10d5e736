package cases

import (
	"testing"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/phases"
)

// TestRefusedWriteRollsBackBeforeItIsAcknowledged: Redis answers, and refuses writes.
// Reads come from legacy again before the write is acknowledged.
func TestRefusedWriteRollsBackBeforeItIsAcknowledged(t *testing.T) {
	t.Parallel()
	for name, command := range map[string][]any{
		"out of memory":    {"CONFIG", "SET", "maxmemory", "1"},
		"a replica":        {"REPLICAOF", "127.0.0.1", "1"},
		"too few replicas": {"CONFIG", "SET", "min-replicas-to-write", "1"},
		"lost permissions": {"ACL", "SETUSER", "default", "-@write", "-@scripting"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, server := newWorldOnRedis(t)
			a := w.application(setup{policy: dual.RollBack})
			w.upto(phases.Grace)
			redisDo(t, server, command, []any{"CLIENT", "KILL", "TYPE", "normal", "SKIPME", "no"})
			a.mustWrite(1, "acknowledged")
			if at := w.status().Route; at.ReadsTarget() {
				t.Errorf("the route is %s, which reads the target", at)
			}
			if got := a.read(1); got != "acknowledged" {
				t.Errorf("a read answers %q", got)
			}
		})
	}
}
