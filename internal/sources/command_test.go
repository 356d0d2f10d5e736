//go:build unix

package sources_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/internal/judge"
	"github.com/stranglerfig/migrator/internal/sources"
	"github.com/stranglerfig/migrator/phases"
)

func sh(script string) []string { return []string{"sh", "-c", script} }

func TestCommandVerdicts(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		args    []string
		verdict phases.Verdict
		value   float64
		detail  string
	}{
		"exit 0":              {sh("exit 0"), phases.Pass, 0, "sh passes"},
		"exit 0, a number":    {sh("echo looked; echo 0.25"), phases.Pass, 0.25, "sh passes: 0.25"},
		"exit 1":              {sh("echo the pool is full >&2; exit 1"), phases.Fail, 0, "sh exits with 1: the pool is full"},
		"exit 1, two lines":   {sh("printf 'first\\nlast\\n\\n' >&2; echo 7; exit 3"), phases.Fail, 7, "exits with 3: last"},
		"exit 2, no reason":   {sh("exit 2"), phases.Fail, 0, "sh exits with 2"},
		"not a number":        {sh("echo NaN"), phases.Pass, 0, "NaN"},
		"infinite":            {sh("echo Inf"), phases.Pass, 0, "Inf"},
		"a signal":            {sh("kill -KILL $$"), phases.Error, 0, "ended by a signal (signal: killed)"},
		"no such program":     {[]string{"no-such-program"}, phases.Error, 0, "no-such-program did not run"},
		"no program":          {nil, phases.Error, 0, "no command"},
		"much output":         {sh("yes | head -c 3000000; echo 5"), phases.Pass, 5, "5"},
		"no reader of stdin":  {sh("exec <&-; exit 0"), phases.Pass, 0, "passes"},
		"a control character": {sh("printf 'a\\033[31mb' >&2; exit 1"), phases.Fail, 0, "with 1: a\\x1b[31mb"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			command := &sources.Command{Args: c.args, Status: func(context.Context) (phases.Status, error) { return phases.Status{}, nil }}
			check(t, command.Read(t.Context()), c.verdict, c.value, c.detail)
		})
	}
}

func TestCommandReceivesMigrationStatus(t *testing.T) {
	t.Setenv("MIGRATOR_STATE_URL", "postgres://u:geheim@h/d")
	dir := t.TempDir()
	command := &sources.Command{
		Args: sh("cat > input; env > environment"), Dir: dir, Env: []string{"REGION=eu"},
		Status: func(context.Context) (phases.Status, error) {
			return phases.Status{Migration: "products", Route: phases.Route{Phase: phases.Cutover, Percent: 2500, Epoch: 12}, ConfigHash: "abc"}, nil
		},
	}
	check(t, command.Read(t.Context()), phases.Pass, 0, "passes")
	input, err := os.ReadFile(filepath.Join(dir, "input"))
	if err != nil || string(input) != `{"migration":"products","phase":"cutover","percent":25,"epoch":12,"config_hash":"abc"}` {
		t.Errorf("its stdin is %s (%v)", input, err)
	}
	environment, err := os.ReadFile(filepath.Join(dir, "environment"))
	if err != nil || !strings.Contains(string(environment), "REGION=eu") || strings.Contains(string(environment), "geheim") {
		t.Errorf("its environment is %s (%v)", environment, err)
	}
	command.Status = func(context.Context) (phases.Status, error) { return phases.Status{}, errors.New("no database") }
	check(t, command.Read(t.Context()), phases.Error, 0, "was not run")
}

func TestCommandThatTakesTooLong(t *testing.T) {
	t.Parallel()
	command := &sources.Command{Args: []string{"sleep", "600"}, Timeout: 300 * time.Millisecond}
	check(t, command.Read(t.Context()), phases.Error, 0, "sleep took longer than 300ms")
}

// A command that hangs is killed with its children. So is a process that a command leaves
// running with its output open.
func TestCommandLeavesNoProcess(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		script  string
		verdict phases.Verdict
		detail  string
	}{
		"hangs":             {"sleep 600 & echo $! > child; wait", phases.Error, "ended by a signal (signal: killed)"},
		"stubborn":          {"trap '' TERM INT; sleep 600 & echo $! > child; while :; do wait; done", phases.Error, "ended by a signal (signal: killed)"},
		"leaves one":        {"sleep 600 & echo $! > child; exit 0", phases.Pass, "passes"},
		"fails, leaves one": {"sleep 600 & echo $! > child; echo bad >&2; exit 4", phases.Fail, "exits with 4: bad"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			done := make(chan judge.Reading, 1)
			go func() { done <- (&sources.Command{Args: sh(c.script), Dir: dir, Timeout: 10 * time.Minute}).Read(ctx) }()
			pid := awaitChild(t, filepath.Join(dir, "child"))
			if c.verdict == phases.Error { // it never ends by itself
				cancel()
			}
			reading := <-done
			check(t, reading, c.verdict, 0, c.detail)
			var kept struct {
				Command []string
				Exit    int
			}
			if err := json.Unmarshal(reading.Inputs, &kept); err != nil || len(kept.Command) != 3 {
				t.Errorf("recorded %s: %v", reading.Inputs, err)
			}
			awaitExit(t, pid)
		})
	}
}

// awaitChild waits for the line with the child's pid.
func awaitChild(t *testing.T, file string) (pid int) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(time.Minute)
	for {
		raw, _ := os.ReadFile(file)
		if line, whole := strings.CutSuffix(string(raw), "\n"); whole {
			pid, err := strconv.Atoi(line)
			if err != nil {
				t.Fatal(err)
			}
			return pid
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("it starts no child")
		}
	}
}

func awaitExit(t *testing.T, pid int) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(time.Minute)
	for dead := false; !dead; {
		// A zombie has exited too: there may be no init here that reaps it.
		stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		dead = errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) || err == nil && strings.Contains(string(stat), ") Z ")
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("its child %d still runs", pid)
		}
	}
}
