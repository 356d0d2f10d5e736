//go:build unix

package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/test/clitest"
	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/phases"
)

// TestTortureScreenInATerminal shows status --watch of a held cutover in a real terminal of 80x24, of 60x20, and of the
// first when it gets the size of the second: the first line stays, and phase, rollback cost, what holds the step and
// since when are on it, with how far the bounds are to their limits.
func TestTortureScreenInATerminal(t *testing.T) {
	if os.Getenv("MIGRATOR_TORTURE") == "" {
		t.Skip("MIGRATOR_TORTURE is not set")
	}
	tmux, err := exec.LookPath("tmux")
	if err != nil {
		t.Skip("no tmux")
	}
	const rest = "environment: staging\nphases: {shadow_write: {for: 0s}, dual_read: {steps: [100], over: 0s}, cutover: {steps: [50, 100], over: 0s}, approval: {for: []}}\n"
	o := clitest.New(t, "loans", "  table: loans\n", "  key: loan:{id}\n", rest+"gates: {off: a test}\n")
	o.SQL(o.Legacy, `CREATE TABLE loans (id bigint PRIMARY KEY, note text); INSERT INTO loans VALUES (1, 'a')`)
	o.Does("init", "apply", "phase advance", "backfill run", "phase advance", "reconcile run --full", "phase advance", "phase pause --reason audit")
	file, err := os.ReadFile(o.Path("migration.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	o.Write("migration.yaml", strings.Replace(string(file), "gates: {off: a test}", "gates: {shadow_writes: {off: a test}, target_reads: {off: a test}}", 1))
	o.Does("apply")
	closingIn(t, o)

	run := func(args ...string) string {
		t.Helper()
		out, err := exec.Command(tmux, append([]string{"-u", "-S", o.Path("tmux")}, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %v: %s", args, err, out)
		}
		return string(out)
	}
	t.Cleanup(func() { _ = exec.Command(tmux, "-S", o.Path("tmux"), "kill-server").Run() })
	check := func(session string, columns, lines int, bar string) {
		t.Helper()
		var screen string
		testenv.Await(t, "the screen is drawn", func() bool {
			screen = run("capture-pane", "-p", "-t", session)
			return strings.Contains(screen, "held since") && strings.Contains(screen, bar)
		})
		t.Logf("%dx%d:\n%s", columns, lines, screen)
		all := strings.Split(screen, "\n")
		for _, line := range all {
			if utf8.RuneCountInString(line) > columns {
				t.Errorf("%dx%d: a line is too wide: %s", columns, lines, line)
			}
		}
		if !strings.HasPrefix(all[0], "loans: cutover 50 % (epoch 4, for ") {
			t.Errorf("%dx%d: the first line is %q", columns, lines, all[0])
		}
		words := strings.Join(strings.Fields(screen), " ")
		for _, want := range []string{"paused audit", "rollback lossless now", "waits for not-paused, consistency, held since", "fail not-paused paused: audit", "ramp cutover [", "▇"} {
			if !strings.Contains(words, want) {
				t.Errorf("%dx%d: the screen lacks %q:\n%s", columns, lines, want, screen)
			}
		}
	}
	name := len(phases.GateConsistency)
	wide, narrow := bar(2, barCells(80, name))+" 3.5 % of 2 %", bar(2, barCells(60, name))+" 3.5 % of 2 %"
	for _, size := range []struct {
		columns, lines int
		bar            string
	}{{80, 24, wide}, {60, 20, narrow}} {
		session := fmt.Sprintf("s%d", size.columns)
		watch := o.Command("status", "--watch")
		run(append([]string{"new-session", "-d", "-s", session, "-x", fmt.Sprint(size.columns), "-y", fmt.Sprint(size.lines), "env", "LC_ALL=C.UTF-8"}, watch.Args...)...)
		check(session, size.columns, size.lines, size.bar)
	}
	run("resize-window", "-t", "s80", "-x", "60", "-y", "20")
	check("s80", 60, 20, narrow)
	run("resize-window", "-t", "s80", "-x", "80", "-y", "24")
	check("s80", 80, 24, wide)
}

// closingIn records evaluations whose bounds come closer to their limits.
func closingIn(t *testing.T, o *clitest.Operator) {
	t.Helper()
	store, err := state.Open(t.Context(), o.State)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	st, err := store.Status(t.Context(), "loans")
	if err != nil {
		t.Fatal(err)
	}
	for _, bound := range []float64{0.2, 0.14, 0.1, 0.08, 0.06, 0.05, 0.042, 0.035} {
		one := phases.Evaluation{
			Kind: phases.GateKind, Name: phases.GateConsistency, Epoch: st.Route.Epoch, ConfigHash: st.ConfigHash, Verdict: phases.Inconclusive,
			Detail: "100 comparisons", Samples: 100, Bound: bound, Limit: 0.02,
		}
		other := one
		other.Kind, other.Name, other.Verdict, other.Bound, other.Limit = phases.TriggerKind, phases.TriggerMismatches, phases.Quiet, 0.05-bound/5, 0.1
		if _, err := store.Record(t.Context(), "loans", []phases.Evaluation{one, other}); err != nil {
			t.Fatal(err)
		}
	}
}
