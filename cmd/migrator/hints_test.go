package main

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"strings"
	"testing"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/test/clitest"
)

// TestEveryActionHasACommandLine: the command exists, with its flags and subjects, and no
// line is for an unknown action.
func TestEveryActionHasACommandLine(t *testing.T) {
	t.Parallel()
	lines := commandLines()
	for _, a := range hint.Actions() {
		h := hint.Hint{Do: a}
		switch a {
		case hint.DrillShow, hint.RunbookShow, hint.RunbookApprove, hint.AcceptMissing:
			h.Of = []string{"7"} // their first subject must be a number
		}
		line := given{migration: "loans"}.commandLine(h)
		delete(lines, a)
		switch {
		case line == "" || strings.ContainsAny(line, "{}"):
			t.Errorf("%s: %q", a, line)
		case a == hint.Retry, a == hint.SetStateURL, a == hint.SetMigrationFile:
		case a == hint.Listen:
			for _, flag := range []string{"--listen 127.0.0.1:7070", "--listen-anywhere"} {
				if err := understood(clitest.ShellWords("migrator serve " + flag)); err != nil || !strings.Contains(line, flag) {
					t.Errorf("%s: %s: %v", a, line, err)
				}
			}
		default:
			if err := parsed(line); err != nil {
				t.Errorf("%s: %s: %v", a, line, err)
			}
		}
	}
	for a := range lines {
		t.Errorf("there is no action %s", a)
	}
}

// parsed parses a command line as cobra does before it runs a command, with the
// command's own check of its arguments.
func parsed(line string) error {
	words := clitest.ShellWords(line)
	if err := understood(words); err != nil {
		return err
	}
	cmd, rest, err := newRoot(&cli{}).Find(words[1:])
	if err != nil {
		return err
	}
	if !cmd.Runnable() || cmd.HasSubCommands() {
		return errors.New("it has only subcommands")
	}
	if err := cmd.ParseFlags(rest); err != nil {
		return err
	}
	return cmd.ValidateArgs(cmd.Flags().Args())
}

func TestHintsAsTheyArePrinted(t *testing.T) {
	t.Parallel()
	evict := hint.Hint{Do: hint.FleetEvict, Of: []string{"till 7's"}, Text: "once you know that it has stopped"}
	back := hint.Hint{Do: hint.RollbackTo, Of: []string{"cutover", "25"}, Text: "to go down"}
	for _, c := range []struct {
		given given
		hint  hint.Hint
		want  string
	}{
		{given{}, hint.Hint{}, ""},
		{given{}, evict, `migrator fleet evict 'till 7'\''s' --reason '...', once you know that it has stopped`},
		{given{}, back, "migrator phase rollback --to cutover --percent 25, to go down"},
		{given{migration: "loans"}, back, "migrator phase rollback loans --to cutover --percent 25, to go down"},
		{given{}, hint.Hint{Do: hint.ReconcileRun}, "migrator reconcile run"},
		{given{file: "my loans.yaml"}, hint.Hint{Do: hint.ReconcileRun}, "migrator --file 'my loans.yaml' reconcile run"},
		{given{file: "loans.yaml"}, hint.Hint{Do: hint.Retry, Text: "in a moment"}, "the same again, in a moment"},
		{given{}, hint.Hint{Do: hint.GrantOperator}, "migrator init --grant-operator ROLE"},
		{given{}, hint.Hint{Text: "upgrade Redis"}, "upgrade Redis"},
		{given{}, hint.Hint{Do: "of-a-later-release", Text: "and wait"}, "and wait"},
	} {
		if got := c.given.text(c.hint); got != c.want {
			t.Errorf("%+v %+v: %q, want %q", c.given, c.hint, got, c.want)
		}
	}
}

// TestAnErrorIsPrintedWithItsHint, as text and as JSON; also if the remedy is still in
// its text.
func TestAnErrorIsPrintedWithItsHint(t *testing.T) {
	t.Parallel()
	fact := errors.New("no reconcile run 7")
	for _, c := range []struct {
		err        error
		text, json string
	}{
		{fact, "Error: no reconcile run 7\n", `{"error":"no reconcile run 7","code":1}`},
		{
			hint.With(fact, hint.Hint{Do: hint.ReconcileShow, Of: []string{"6"}}),
			"Error: no reconcile run 7\nTry: migrator reconcile show 6\n",
			`{"error":"no reconcile run 7","hint":"migrator reconcile show 6","do":"reconcile-show","of":["6"],"code":1}`,
		},
		{
			usage(fact, "--percent 25"),
			"Error: no reconcile run 7\nTry: --percent 25\n",
			`{"error":"no reconcile run 7","hint":"--percent 25","code":2}`,
		},
	} {
		for output, want := range map[string]string{outputText: c.text, outputJSON: c.json + "\n"} {
			var stderr bytes.Buffer
			(&cli{streams: streams{err: &stderr}, settings: settings{Output: output}}).fail(c.err)
			if stderr.String() != want {
				t.Errorf("%q, want %q", stderr.String(), want)
			}
		}
	}
}

// TestLogsShowTheCommandLine, which libraries don't know.
func TestLogsShowTheCommandLine(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"text", "json"} {
		var stderr bytes.Buffer
		c := &cli{streams: streams{err: &stderr}, settings: settings{Output: outputText, LogLevel: "info", LogFormat: format}}
		if err := c.check(func(name string) string { return name }); err != nil {
			t.Fatal(err)
		}
		c.log.Info("failed", "error", "e", hint.Attr(hint.With(errors.New("e"), hint.Hint{Do: hint.FleetList})))
		c.log.Info("failed", slog.Int("n", 1), hint.Attr(errors.New("e")))
		lines := strings.Split(stderr.String(), "\n")
		if !strings.Contains(lines[0], "migrator fleet list") || strings.Contains(lines[1], "hint") || strings.Contains(lines[1], `"":`) {
			t.Errorf("%s", stderr.String())
		}
	}
}

// TestTheJSONReferenceListsEveryAction, with its command line.
func TestTheJSONReferenceListsEveryAction(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("../../docs/json.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(data), "\n## Actions\n")
	section, _, _ = strings.Cut(section, "\n## ")
	if !ok {
		t.Fatal("docs/json.md has no section Actions")
	}
	var rows []string
	for line := range strings.Lines(section) {
		if strings.HasPrefix(line, "| `") {
			rows = append(rows, strings.TrimSpace(line))
		}
	}
	for i, a := range hint.Actions() {
		want := "| `" + string(a) + "` | `" + given{}.commandLine(hint.Hint{Do: a}) + "` |"
		if a == hint.Retry {
			want = "| `" + string(a) + "` | the same command again |"
		}
		if i >= len(rows) || rows[i] != want {
			t.Errorf("docs/json.md, row %d of the actions: want %s", i+1, want)
		}
	}
	if len(rows) != len(hint.Actions()) {
		t.Errorf("docs/json.md lists %d actions of %d", len(rows), len(hint.Actions()))
	}
}
