//go:build unix

package crash

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/phases"
)

// next is what somebody does after the crash.
type next struct {
	name string
	do   func(r *recovery)
}

// quick tells that it is part of the short run: everything again, and a rollback
// where a command moves the migration.
func (n next) quick(failpoint string) bool {
	layer, _, _ := strings.Cut(failpoint, ".")
	return n.name == "again" || n.name == "rollback" && layer == "control"
}

// recovery is one case: a place where a process was killed, and what follows.
type recovery struct {
	*place
	s    scenario
	left phases.Standing // where the killed process has left the migration
	line string          // that was killed
	want phases.Phase    // where it must lead
}

func nexts() []next {
	return []next{
		{"again", (*recovery).again},
		{"rollback", (*recovery).rollback},
		{"home", (*recovery).rollbackToLegacy},
		{"daemon", (*recovery).leaveToDaemon},
	}
}

// TestCrash kills a process at every failpoint, and lets somebody go on.
func TestCrash(t *testing.T) {
	t.Parallel()
	crash(t, next.quick)
}

// TestCrashTorture lets everybody go on, one after the other, each in his own case.
func TestCrashTorture(t *testing.T) {
	t.Parallel()
	if os.Getenv("MIGRATOR_TORTURE") == "" {
		t.Skip("every failpoint with all that may follow: make torture")
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
			t.Logf("%s stands at %s, then: %s. Once more:\n  MIGRATOR_TORTURE=1m go test -run '^%s$' ./internal/test/crash\n%s",
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

// again does what the killed one was to do.
func (r *recovery) again() {
	lines := r.s.again
	switch {
	case r.s.app != nil:
		return // another application is started by the check
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
			r.t.Errorf("migrator %s exits with %d", line, code)
		}
	}
}

// rollback goes back at once, while a killed instance's lease may still be live.
func (r *recovery) rollback() {
	to, err := phases.RollbackTarget(r.left.Route.Phase)
	if err != nil {
		to = r.left.Route.Phase
	}
	r.want = to
	if r.left.Route.Phase == phases.Retain {
		r.evict() // it may read the target, so it must be known to have stopped
	}
	if code := r.run("rollback --yes"); (code == 0) != (err == nil) {
		r.t.Errorf("migrator rollback exits with %d", code)
	}
}

// home goes all the way back.
func (r *recovery) rollbackToLegacy() {
	r.want = phases.Legacy
	if r.left.Route.Phase == phases.Retain {
		r.evict()
	}
	if code := r.run("rollback --to legacy --yes"); (code == 0) != (r.left.Route.Phase != phases.Legacy) {
		r.t.Errorf("migrator rollback exits with %d", code)
	}
}

// wait leaves it to the daemon.
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

// serve runs a daemon until there is nothing left for it to do.
func (p *place) serve() {
	p.t.Helper()
	p.daemon(func() bool {
		st := p.status()
		between := st.Route.Phase.Passing() || st.Route.Phase == phases.Grace && st.Attempt != ""
		return !between && (p.file != "purge.yaml" || p.text(tombstonesSQL) == "0")
	})
}

// killApplication has an application killed at the failpoint. What it has not
// acknowledged may be seen or not.
func (r *recovery) killApplication(name string) {
	r.t.Helper()
	a := r.open(name, r.s.visit)
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
			r.t.Errorf("migrator %s exits with %d", r.s.beside, code)
		}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = a.cmd.Wait()
	}()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		_ = a.cmd.Process.Kill()
		<-done
	}
	r.transcript.WriteString(a.log.String())
	r.died(a.cmd, name)
}
