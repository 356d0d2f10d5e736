//go:build unix

package torture

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// ran is the result of one operator's command.
type ran struct {
	code   int // -1: killed
	output string
}

// migrator runs one command line as a process, over the operator's wires. kill > 0: it is
// killed after that time; freeze > 0: it is stopped for that long, halfway to the kill or at
// once.
func (w *world) migrator(ctx context.Context, kill, freeze time.Duration, line string) ran {
	urls, err := w.urls(w.operatorWires)
	if err != nil {
		return ran{-1, err.Error()}
	}
	cmd := exec.Command(w.program, strings.Fields(line)...)
	cmd.Env = environment("MIGRATOR_STATE_URL="+urls[1], "MIGRATOR_FILE="+w.file, "NO_COLOR=1",
		"TORTURE_LEGACY_URL="+urls[0], "TORTURE_TARGET_URL="+urls[2])
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.Dir = w.dir
	w.events.add("operator", "$ migrator %s", line)
	if err := w.spawner.start(ctx, cmd); err != nil {
		return ran{-1, err.Error()}
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	var due <-chan time.Time
	if kill > 0 || freeze > 0 {
		due = time.After(max(kill, 30*time.Millisecond))
	}
	limit := time.After(3 * time.Minute)
	for running := true; running; {
		select {
		case err = <-ended:
			running = false
		case <-due:
			if freeze == 0 {
				w.events.add("operator", "kill -9 to migrator %s", line)
				_ = cmd.Process.Kill()
				continue
			}
			w.events.add("operator", "migrator %s is frozen for %s", line, freeze)
			_ = cmd.Process.Signal(syscall.SIGSTOP)
			pause(ctx, freeze)
			_ = cmd.Process.Signal(syscall.SIGCONT)
		case <-ctx.Done(): // the run is over; what is half done is resumed afterwards
			_ = cmd.Process.Kill()
			err = <-ended
			running = false
		case <-limit:
			w.t.Errorf("migrator %s hangs", line)
			_ = cmd.Process.Kill()
		}
	}
	r := ran{output: out.String()}
	var exit *exec.ExitError
	if err != nil {
		r.code = -1
	}
	if errors.As(err, &exit) {
		r.code = exit.ExitCode() // -1 by a signal
	}
	if strings.Contains(r.output, "panic:") {
		w.t.Errorf("migrator %s panicked:\n%s", line, r.output)
	}
	end := "killed"
	if r.code >= 0 {
		end = fmt.Sprintf("exit %d", r.code)
	}
	w.mu.Lock()
	w.codes[end]++
	w.mu.Unlock()
	w.events.add("operator", "migrator %s: exit %d: %s", line, r.code, brief(r.output))
	return r
}

// brief shortens a command's output to one line.
func brief(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > 300 {
		text = "..." + text[len(text)-300:]
	}
	return text
}
