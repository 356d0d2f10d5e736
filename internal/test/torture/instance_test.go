//go:build unix

package torture

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/stranglerfig/migrator/dual"
)

// instance is a slot for one application process after the other, with its own wires to the
// servers.
type instance struct {
	w                     *world
	place                 string
	legacy, state, target *wire
	broken                breakage
	url                   atomic.Pointer[string] // nil: not running

	mu      sync.Mutex // held to start, stop or kill it
	number  int
	name    string
	cmd     *exec.Cmd
	stdin   io.Closer
	ended   chan struct{}
	log     *os.File
	past    dual.Stats // of ended processes, as last read
	present dual.Stats
}

func (w *world) newInstance(place string) (s *instance, err error) {
	s = &instance{w: w, place: place}
	wires, err := w.newWires(place)
	if err != nil {
		return nil, err
	}
	s.legacy, s.state, s.target = wires[0], wires[1], wires[2]
	w.t.Cleanup(s.kill)
	return s, nil
}

func (s *instance) wires() []*wire { return []*wire{s.legacy, s.state, s.target} }

// run starts a process. It fails while the servers are unreachable.
func (s *instance) run(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd != nil {
		return nil
	}
	s.number++
	s.name = fmt.Sprintf("%s%d", s.place, s.number)
	urls, err := s.w.urls(s.wires())
	if err != nil {
		return err
	}
	if s.log, err = os.Create(filepath.Join(s.w.dir, s.name+".log")); err != nil {
		return err
	}
	traced := filepath.Join(s.w.dir, s.name+".routes")
	s.w.mu.Lock()
	s.w.traces[s.name] = traced
	s.w.mu.Unlock()
	s.cmd = exec.Command(os.Args[0])
	s.cmd.Env = environment(envRole+"=instance", envFile+"="+s.w.file, envName+"="+s.name, envBreak+"="+string(s.broken), envTrace+"="+traced, envRequest+"="+s.w.requestFor.String(),
		"TORTURE_LEGACY_URL="+withConnectTimeout(urls[0]), envState+"="+withConnectTimeout(urls[1]), "TORTURE_TARGET_URL="+withConnectTimeout(urls[2]))
	s.cmd.Stderr = s.log
	if s.stdin, err = s.cmd.StdinPipe(); err != nil {
		return err
	}
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := s.w.spawner.start(ctx, s.cmd); err != nil {
		s.cmd = nil
		return err
	}
	cmd, ended, name := s.cmd, make(chan struct{}), s.name
	s.ended = ended
	url := make(chan string, 1)
	go func() {
		defer close(url)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if _, at, ok := strings.Cut(lines.Text(), "serving "); ok {
				url <- at
			}
		}
	}()
	go func() {
		err := cmd.Wait()
		s.url.Store(nil)
		s.w.events.add(name, "the process ended (%v)", err)
		s.w.recordDeath(name, time.Now())
		close(ended)
	}()
	select {
	case at, ok := <-url:
		if !ok {
			<-ended
			s.collectLog()
			return fmt.Errorf("instance %s did not start", name)
		}
		s.url.Store(&at)
		s.w.events.add(name, "serves")
		return nil
	case <-time.After(time.Minute):
	case <-ctx.Done():
	}
	_ = s.cmd.Process.Kill()
	<-ended
	s.collectLog()
	return fmt.Errorf("instance %s did not start in time", name)
}

// collectLog adds the ended process's log to the event log. The caller holds mu.
func (s *instance) collectLog() {
	_ = s.stdin.Close()
	_ = s.log.Close()
	if f, err := os.Open(s.log.Name()); err == nil {
		s.w.events.addLog(s.name, f)
		_ = f.Close()
	}
	s.past = sum(s.past, s.present)
	s.present, s.cmd = dual.Stats{}, nil
}

func (s *instance) kill() {
	s.end("kill -9", syscall.SIGKILL)
}

// stop lets it leave the fleet.
func (s *instance) stop() { s.end("asked to leave", syscall.SIGTERM) }

func (s *instance) end(what string, sig syscall.Signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil {
		return
	}
	s.observe()
	s.w.events.add(s.name, "%s", what)
	if sig == syscall.SIGKILL {
		s.w.recordDeath(s.name, time.Now()) // the death itself may be noticed later
	} else {
		_ = s.cmd.Process.Signal(syscall.SIGCONT)
	}
	_ = s.cmd.Process.Signal(sig)
	select {
	case <-s.ended:
	case <-time.After(time.Minute):
		_ = s.cmd.Process.Kill()
		<-s.ended
	}
	s.collectLog()
}

// freeze stops it for a while, then resumes it.
func (s *instance) freeze(ctx context.Context, d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil {
		return
	}
	s.w.events.add(s.name, "frozen for %s", d)
	_ = s.cmd.Process.Signal(syscall.SIGSTOP)
	pause(ctx, d)
	s.w.events.add(s.name, "resumes")
	_ = s.cmd.Process.Signal(syscall.SIGCONT)
}

// observe reads the counters, if it answers. The caller holds mu.
func (s *instance) observe() {
	at := s.url.Load()
	if at == nil {
		return
	}
	asker := http.Client{Timeout: 10 * time.Second} // it answers from memory, unless it is frozen
	resp, err := asker.Get(*at + "/stats")
	if err != nil {
		return
	}
	defer func() { _ = resp.Body.Close() }()
	var seen dual.Stats
	if json.NewDecoder(resp.Body).Decode(&seen) == nil {
		s.present = seen
	}
}

func (s *instance) stats() dual.Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.observe()
	return sum(s.past, s.present)
}

// sum adds the counters that the report shows.
func sum(a, b dual.Stats) dual.Stats {
	a.Writes += b.Writes
	a.LegacyReads += b.LegacyReads
	a.TargetReads += b.TargetReads
	a.Fallbacks += b.Fallbacks
	a.LapsedReads += b.LapsedReads
	a.TargetFailures += b.TargetFailures
	a.Journaled += b.Journaled
	a.EmergencyRollbacks += b.EmergencyRollbacks
	a.Unsettled += b.Unsettled
	a.Degraded += b.Degraded
	a.Failed += b.Failed
	a.FenceWaits += b.FenceWaits
	a.Abandoned += b.Abandoned
	a.Rejoins += b.Rejoins
	a.Mismatches += b.Mismatches
	return a
}
