package sources

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/stranglerfig/migrator/internal/judge"
	"github.com/stranglerfig/migrator/internal/oneline"
	"github.com/stranglerfig/migrator/internal/procgroup"
	"github.com/stranglerfig/migrator/phases"
)

// Command runs a program and reads its exit code: 0 is a pass, any other a fail with
// the last line of its stderr. A program that can't be started, is killed or takes
// longer than Timeout is an error: it has no verdict.
//
// If the last line of its stdout is a finite number, that is the reading's value.
//
// Its stdin is one JSON object, a [CommandInput]. Its environment is PATH, HOME and Env
// alone: the daemon's own contains secrets. It runs in a process group of its own (not on
// Windows), which is killed when the program has ended.
type Command struct {
	Args    []string      // the program, looked up in PATH, and its arguments; no shell
	Env     []string      // KEY=value
	Dir     string        // empty: the daemon's
	Timeout time.Duration // 0: 30 s
	// Status returns the migration's status; nil: the program's stdin is empty.
	Status func(ctx context.Context) (phases.Status, error)
}

// CommandInput is what a command reads from stdin.
type CommandInput struct {
	Migration  string         `json:"migration"`
	Phase      phases.Phase   `json:"phase"`
	Percent    phases.Percent `json:"percent"` // a number: of keys in cutover, of reads in dual-read
	Epoch      int64          `json:"epoch"`
	ConfigHash string         `json:"config_hash"`
}

const (
	defaultCommandTimeout = 30 * time.Second
	maxOutput             = 64 << 10 // of each stream; the beginning is dropped
	afterwards            = time.Second
)

// commandRecord is what is recorded of one run.
type commandRecord struct {
	Command []string `json:"command"`
	Exit    int      `json:"exit"` // -1: it did not exit by itself
	Seconds float64  `json:"seconds"`
	Stdout  string   `json:"stdout,omitempty"` // the last line
	Stderr  string   `json:"stderr,omitempty"` // the last line
}

// Read implements judge.Source.
func (c *Command) Read(ctx context.Context) judge.Reading {
	if len(c.Args) == 0 || c.Args[0] == "" {
		return failed("there is no command to run")
	}
	var input []byte
	if c.Status != nil {
		st, err := c.Status(ctx)
		if err != nil {
			return failed("the command was not run: the migration's status can't be read: %v", err)
		}
		input, err = json.Marshal(CommandInput{st.Migration, st.Route.Phase, st.Route.Percent, st.Route.Epoch, st.ConfigHash})
		if err != nil {
			return failed("%v", err)
		}
	}
	return c.run(ctx, input)
}

func (c *Command) run(ctx context.Context, input []byte) judge.Reading {
	timeout := cmp.Or(c.Timeout, defaultCommandTimeout)
	running, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	stdout, stderr := &tail{}, &tail{}
	cmd := exec.CommandContext(running, c.Args[0], c.Args[1:]...) //nolint:gosec // the operator's own command
	cmd.Dir, cmd.Env = c.Dir, append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME")}, c.Env...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(input), stdout, stderr
	procgroup.Own(cmd)
	cmd.Cancel = func() error { // without SIGTERM first: its timeout has passed
		procgroup.Kill(cmd)
		return cmd.Process.Kill()
	}
	// A process that it left running may keep stdout open: Run waits no longer than this.
	cmd.WaitDelay = afterwards
	began := time.Now()
	err := cmd.Run()
	procgroup.Kill(cmd)
	if errors.Is(err, exec.ErrWaitDelay) {
		err = nil
	}
	kept := commandRecord{Command: c.Args, Exit: -1, Seconds: time.Since(began).Seconds(), Stdout: stdout.lastLine(), Stderr: stderr.lastLine()}
	if cmd.ProcessState != nil {
		kept.Exit = cmd.ProcessState.ExitCode()
	}
	reading := c.verdict(kept, err, running.Err() != nil && ctx.Err() == nil, timeout)
	if v, err := strconv.ParseFloat(kept.Stdout, 64); err == nil && v-v == 0 { // finite
		reading.Value = v
	}
	reading.Inputs, _ = json.Marshal(kept)
	return reading
}

func (c *Command) verdict(kept commandRecord, err error, late bool, timeout time.Duration) judge.Reading {
	var exit *exec.ExitError
	switch {
	case late && kept.Exit != 0:
		return failed("%s took longer than %s and was killed", c.Args[0], timeout)
	case err == nil:
		return judge.Reading{Verdict: phases.Pass, Detail: withDetail(c.Args[0]+" passes", kept.Stdout)}
	case errors.As(err, &exit) && kept.Exit > 0:
		return judge.Reading{Verdict: phases.Fail, Detail: withDetail(fmt.Sprintf("%s exits with %d", c.Args[0], kept.Exit), kept.Stderr)}
	case errors.As(err, &exit):
		return failed("%s was ended by a signal (%v)", c.Args[0], exit)
	default:
		return failed("%s did not run: %v", c.Args[0], err)
	}
}

func withDetail(what, line string) string {
	if line == "" {
		return what
	}
	return what + ": " + line
}

// tail keeps the last maxOutput bytes that are written to it.
type tail struct{ kept []byte }

func (t *tail) Write(p []byte) (int, error) {
	t.kept = append(t.kept, p[max(0, len(p)-maxOutput):]...)
	t.kept = t.kept[max(0, len(t.kept)-maxOutput):]
	return len(p), nil
}

func (t *tail) lastLine() string {
	text := strings.TrimSpace(string(t.kept))
	return oneline.Of(text[strings.LastIndexByte(text, '\n')+1:])
}
