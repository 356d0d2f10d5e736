//go:build unix

package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stranglerfig/migrator/internal/test/clitest"
)

// TestTortureScreenInATerminal shows status --watch of a held cutover in a real terminal of 80x24 and of
// 60x20: the first line stays, and phase, rollback cost, what holds the step and since when are on it.
func TestTortureScreenInATerminal(t *testing.T) {
	if os.Getenv("MIGRATOR_TORTURE") == "" {
		t.Skip("MIGRATOR_TORTURE is not set")
	}
	tmux, err := exec.LookPath("tmux")
	if err != nil {
		t.Skip("no tmux")
	}
	o := clitest.New(t, "loans", "  table: loans\n", "  key: loan:{id}\n",
		"environment: staging\nphases: {shadow_write: {for: 0s}, dual_read: {steps: [100], over: 0s}, cutover: {steps: [50, 100], over: 0s}, approval: {for: []}}\ngates: {off: a test}\n")
	o.SQL(o.Legacy, `CREATE TABLE loans (id bigint PRIMARY KEY, note text); INSERT INTO loans VALUES (1, 'a')`)
	o.Does("init", "apply", "phase advance", "backfill run", "phase advance", "reconcile run --full", "phase advance", "phase pause --reason audit")
	socket := o.Path("tmux")
	t.Cleanup(func() { _ = exec.Command(tmux, "-S", socket, "kill-server").Run() })
	for _, size := range [][2]int{{80, 24}, {60, 20}} {
		session := fmt.Sprintf("s%d", size[0])
		watch := o.Command("status", "--watch")
		args := append([]string{"-S", socket, "new-session", "-d", "-s", session, "-x", fmt.Sprint(size[0]), "-y", fmt.Sprint(size[1]), "env"}, watch.Env...)
		if out, err := exec.Command(tmux, append(args, watch.Args...)...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		var screen string
		clitest.Until(t, "the screen is drawn twice", func() bool {
			out, err := exec.Command(tmux, "-S", socket, "capture-pane", "-p", "-t", session).Output()
			if screen = string(out); err != nil {
				t.Fatal(err, screen)
			}
			return strings.Contains(screen, "held since") && strings.Contains(screen, "fleet      0 instances, settled")
		})
		lines := strings.Split(screen, "\n")
		for _, line := range lines {
			if utf8.RuneCountInString(line) > size[0] {
				t.Errorf("%v: a line is too wide: %s", size, line)
			}
		}
		if !strings.HasPrefix(lines[0], "loans: cutover 50 % (epoch 4, for ") {
			t.Errorf("%v: the first line is %q", size, lines[0])
		}
		words := strings.Join(strings.Fields(screen), " ")
		for _, want := range []string{"paused audit", "rollback lossless now", "waits for not-paused, held since", "fail not-paused paused: audit", "passed 12 gates"} {
			if !strings.Contains(words, want) {
				t.Errorf("%v: the screen lacks %q:\n%s", size, want, screen)
			}
		}
		t.Logf("%v:\n%s", size, screen)
	}
}
