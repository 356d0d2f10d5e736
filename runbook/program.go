package runbook

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/stranglerfig/migrator/internal/infile"
	"github.com/stranglerfig/migrator/internal/procgroup"
)

// afterTerm is how long a program has to end after SIGTERM.
const afterTerm = 3 * time.Second

// program runs a script, or migrator commands one after the other. Each runs in a process
// group of its own; no process of the group survives the command.
func (t *Executors) program(ctx context.Context, s *Step, line func(string)) (Detail, error) {
	if err := t.lockMark(); err != nil {
		return Detail{}, err
	}
	out := &output{redact: t.Redact, line: line}
	if s.Language != "migrator" {
		// The script is an argument and so visible to other users; secrets must come from
		// variables.
		code, err := t.start(ctx, out, s, "/usr/bin/env", s.Language, "-eu", "-c", s.Body)
		return Detail{Output: out.text(), Exit: code}, err
	}
	for text := range strings.Lines(s.Body) {
		words, err := shellWords(text)
		if err != nil {
			return Detail{Output: out.text()}, err
		}
		if len(words) == 0 {
			continue
		}
		if code, err := t.start(ctx, out, s, t.Self, words[1:]...); err != nil {
			return Detail{Output: out.text(), Exit: code}, fmt.Errorf("%s: %w", Words(words), err)
		}
	}
	return Detail{Output: out.text()}, nil
}

func (t *Executors) start(ctx context.Context, out *output, s *Step, name string, args ...string) (int, error) {
	cmd := exec.CommandContext(ctx, name, args...) //nolint:gosec // the operator's own command
	if name == t.Self {
		cmd.Args[0] = "migrator"
	}
	cmd.Dir, cmd.Env = t.Dir, append(append([]string{}, t.Env...), "RUNBOOK_RUN="+fmt.Sprint(t.Run), "RUNBOOK_STEP="+s.ID)
	cmd.Stdout, cmd.Stderr = out, out
	if t.mark != nil {
		cmd.ExtraFiles = []*os.File{t.mark}
	}
	procgroup.Own(cmd)
	// A process that the program left behind may keep stdout open: wait no longer than this.
	cmd.WaitDelay = afterTerm
	err := cmd.Run()
	procgroup.Kill(cmd)
	if errors.Is(err, exec.ErrWaitDelay) && ctx.Err() == nil {
		err = nil
	}
	code := -1
	if cmd.ProcessState != nil {
		code = cmd.ProcessState.ExitCode()
	}
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0, nil
	case ctx.Err() == nil && errors.As(err, &exit) && conclusive(name == t.Self, code):
		return code, &NotMetError{fmt.Sprintf("exit code %d", code)}
	case errors.As(err, &exit) && code >= 0:
		return code, errorf("exit code %d", code)
	}
	return code, err
}

// conclusive reports whether an exit code answers the condition. 126 and 127 are the shell's
// codes for a program that it can't run. Of migrator's own codes only 8 means that the
// condition is not met.
func conclusive(migrator bool, code int) bool {
	if migrator {
		return code == 8
	}
	return code > 0 && code != 126 && code != 127
}

// beside returns the path of a file that the runbook names, relative to the runbook's
// directory.
func (r *Runbook) beside(file string) string {
	if filepath.IsAbs(file) {
		return file
	}
	return filepath.Join(filepath.Dir(r.File), file)
}

// URL returns the URL of a connection that the front matter names.
func (r *Runbook) URL(connection string) (string, error) {
	c, ok := r.Connections[connection]
	switch {
	case !ok:
		return "", errorf("there is no connection %q", connection)
	case c.Env != "":
		if v := os.Getenv(c.Env); v != "" {
			return v, nil
		}
		return "", errorf("connection %s: the environment variable %s is not set", connection, c.Env)
	}
	text, err := infile.Text(r.beside(c.URLFile))
	if err != nil {
		return "", fmt.Errorf("connection %s: %w", connection, err)
	}
	return text, nil
}

func readFull(from io.Reader, into []byte) (int, error) {
	n, err := io.ReadFull(from, into)
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}

func printableLines(s string) string {
	lines := strings.Split(s, "\n")
	for i := range lines {
		lines[i] = printable(lines[i])
	}
	return strings.Join(lines, "\n")
}
