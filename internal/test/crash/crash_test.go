//go:build unix

package crash

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/phases"
)

// next is what happens after the crash.
type next struct {
	name string
	do   func(r *recovery)
}

// quick reports whether the case is part of the short run: the steps of the protocol, which
// moves, writes and the fence consist of, each with the same command again, and with a rollback
// for those after which legacy may be fenced. The command that is killed in a return is a rollback already.
func (n next) quick(failpoint string) bool {
	switch layer, step, _ := strings.Cut(failpoint, "."); layer {
	case "control":
		fenced := strings.HasPrefix(step, "fence.") || strings.HasPrefix(step, "lift.")
		return n.name == "again" || fenced && n.name == "rollback"
	case "dual", "postgres":
		return n.name == "again"
	default:
		return false
	}
}

// recovery is one case: the failpoint at which a process was killed, and what follows.
type recovery struct {
	*place
	s    scenario
	left phases.Status // the migration's status after the kill
	line string        // the killed command
	want phases.Phase  // the phase that must result
}

func nexts() []next {
	return []next{
		{"again", (*recovery).again},
		{"rollback", (*recovery).rollback},
		{"home", (*recovery).rollbackToLegacy},
		{"daemon", (*recovery).leaveToDaemon},
	}
}

// TestCrash kills a process at every step of the protocol, and recovers.
func TestCrash(t *testing.T) {
	t.Parallel()
	crash(t, next.quick)
}

// TestCrashTorture recovers from every failpoint in every way, each as a case of its own.
func TestCrashTorture(t *testing.T) {
	t.Parallel()
	if os.Getenv("MIGRATOR_TORTURE") == "" {
		t.Skip("every failpoint with every recovery: make torture")
	}
	crash(t, func(next, string) bool { return true })
}

func crash(t *testing.T, chosen func(n next, failpoint string) bool) {
	w := newWorld(t)
	w.prepare(t)
	for name, s := range scenarios() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, n := range nexts() {
				if s.fresh && n.name != "again" || !chosen(n, name) {
					continue
				}
				t.Run(n.name, func(t *testing.T) {
					t.Parallel()
					w.recover(t, name, s, n)
				})
			}
		})
	}
}

func (w *world) recover(t *testing.T, name string, s scenario, n next) {
	r := &recovery{place: w.copyOf(t, w.stages[s.from]), s: s, want: s.to}
	defer func() {
		if t.Failed() {
			t.Logf("%s is at %s, then: %s. To repeat it:\n  MIGRATOR_TORTURE=1m go test -run '^%s$' ./internal/test/crash\n%s",
				name, failpoints(t)[name], n.name, strings.ReplaceAll(t.Name(), "/", "$/^"), r.transcript.String())
		}
	}()
	if s.file != "" {
		r.file = s.file
	}
	if s.setup != nil {
		s.setup(r.place)
	}
	r.line = r.filled(s.line)
	if s.app != nil {
		r.killApplication(name)
	} else {
		r.kill(name, s.visit, r.line)
	}
	if !s.fresh {
		r.left = r.status()
	}
	n.do(r)
	r.cleanUp()
	r.check(r.want)
}

// again runs the killed command again.
func (r *recovery) again() {
	lines := r.s.again
	switch {
	case r.s.app != nil:
		return // the check starts another application
	case lines == nil:
		lines = []string{r.line}
	}
	for _, line := range lines {
		if line == "serve" {
			r.serve()
			continue
		}
		reached := !r.s.fresh && r.left.Route.Phase == r.s.to && (r.left.Attempt == "" || r.s.to == phases.Retain)
		repairs := strings.Contains(line, "--repair")
		if code := r.run(line); code != 0 && !reached && (code != 8 || !repairs) {
			r.t.Errorf("migrator %s exit code %d", line, code)
		}
	}
}

// rollback rolls back at once, while a killed instance's lease may still be live.
func (r *recovery) rollback() {
	to, err := phases.RollbackTarget(r.left.Route.Phase)
	if err != nil {
		to = r.left.Route.Phase
	}
	r.want = to
	if r.left.Route.Phase == phases.Retain {
		r.evict() // it may read the target, so its end must be confirmed
	}
	if code := r.run("rollback --yes"); (code == 0) != (err == nil) {
		r.t.Errorf("migrator rollback: exit code %d", code)
	}
}

// rollbackToLegacy rolls back to legacy.
func (r *recovery) rollbackToLegacy() {
	r.want = phases.Legacy
	if r.left.Route.Phase == phases.Retain {
		r.evict()
	}
	if code := r.run("rollback --to legacy --yes"); code != 0 {
		r.t.Errorf("migrator rollback: exit code %d", code)
	}
}

// leaveToDaemon lets the daemon recover.
func (r *recovery) leaveToDaemon() {
	r.want = r.left.Route.Phase
	if r.want.Passing() {
		r.want = phases.Grace
	}
	if r.left.Route.Phase == phases.Retain {
		r.evict()
	}
	r.serve()
}

// serve runs a daemon until it has nothing left to do.
func (p *place) serve() {
	p.t.Helper()
	p.daemon(func() bool {
		st := p.status()
		between := st.Route.Phase.Passing() || st.Route.Phase == phases.Grace && st.Attempt != ""
		return !between && (p.file != "purge.yaml" || p.text(tombstonesSQL) == "0")
	})
}

// killApplication kills an application at the failpoint. Unacknowledged writes may be visible
// or not.
func (r *recovery) killApplication(name string) {
	r.t.Helper()
	a := r.open(name, r.s.visit)
	r.targetAway = false // for those that follow
	for _, line := range r.s.app {
		if line == "leave" {
			_ = a.stdin.Close()
			break
		}
		if answer, alive := a.send(line); alive && answer == "ok" {
			r.ledger.addAcknowledged(line)
		} else {
			r.ledger.addUnconfirmed(line)
		}
	}
	if r.s.beside != "" {
		if code := r.run(r.s.beside); code != 0 && code != 8 {
			r.t.Errorf("migrator %s exit code %d", r.s.beside, code)
		}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = a.cmd.Wait()
	}()
	select {
	case <-done:
	case <-time.After(2 * time.Minute):
		_ = a.cmd.Process.Kill()
		<-done
	}
	r.transcript.WriteString(a.log.String())
	r.died(a.cmd, name)
}
