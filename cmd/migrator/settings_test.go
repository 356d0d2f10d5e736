package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestSettingsFileIsFound: where users look for it, the nearer one first, and never one that every
// user may write, or that opens the daemon to other machines because of the folder it is in.
func TestSettingsFileIsFound(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	run := func(in, env string, args ...string) (code int, output string) {
		t.Helper()
		cmd := exec.Command("migrator", args...)
		cmd.Dir = filepath.Join(dir, in)
		cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_CONFIG_HOME="+filepath.Join(dir, "config"), env)
		var out bytes.Buffer
		cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader("name: from-stdin\n"), &out, &out
		if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
			t.Fatal(err)
		}
		return cmd.ProcessState.ExitCode(), out.String()
	}
	user := write("config/migrator/migrator.yaml", "file: of-the-user\n")
	write("here/migrator.yaml", "file: of-the-folder\n")
	named := write("named.yaml", "file: of-the-flag\nlisten_anywhere: true\n")
	write("wide/migrator.yaml", "listen_anywhere: true\n")
	write("narrow/migrator.yaml", "listen_anywhere: false\n")
	open := write("open/migrator.yaml", "file: of-all\n")
	if err := os.Chmod(open, 0o666); err != nil {
		t.Fatal(err)
	}
	write("elsewhere/x", "")
	for _, c := range []struct {
		in, env string
		args    string
		code    int
		says    string
	}{
		{"elsewhere", "", "", exitDone, user},
		{"here", "", "", exitDone, "of-the-folder"},
		{"here", "MIGRATOR_SETTINGS=" + user, "", exitDone, "of-the-user"},
		{"here", "MIGRATOR_SETTINGS=" + user, "--settings " + named, exitDone, "of-the-flag"},
		{"here", "", "--settings nowhere.yaml", exitUsage, "nowhere.yaml does not exist"},
		{"here", "MIGRATOR_SETTINGS=/dev/zero", "", exitUsage, "/dev/zero is a device"},
		{"wide", "", "", exitUsage, "listen_anywhere is not taken from the folder"},
		{"narrow", "", "", exitDone, "migrator.yaml"},
		{"open", "", "", exitUsage, "can be written by every user"},
	} {
		code, output := run(c.in, c.env, append(strings.Fields(c.args), "config", "settings")...)
		if code != c.code || !strings.Contains(output, c.says) {
			t.Errorf("in %s, %s %s: %d, want %q\n%s", c.in, c.env, c.args, code, c.says, output)
		}
	}
	if code, output := run("elsewhere", "", "config", "validate", "-f", "-"); code != exitUsage || !strings.Contains(output, "stdin:1: legacy") {
		t.Errorf("a migration file from stdin: %d %s", code, output)
	}
}
