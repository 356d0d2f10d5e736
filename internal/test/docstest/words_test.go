package docstest

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/server"
	"github.com/stranglerfig/migrator/internal/test/clitest"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/store"
)

// TestDocsStandAlone: documents refer to nothing outside of the repository, announce no
// future work, and do not advertise.
func TestDocsStandAlone(t *testing.T) {
	t.Parallel()
	for _, unwanted := range []*regexp.Regexp{
		regexp.MustCompile(`(?i)\b(todo|fixme|tbd|xxx|lorem)\b`),
		regexp.MustCompile(`\B#[0-9]+\b`),                         // of a tracker
		regexp.MustCompile(`(^|[\s"'(])/(home|root|work|Users)/`), // of one machine
		regexp.MustCompile(`(?i)\b(seamless|blazing|effortless|powerful|robust|leverage|cutting-edge|state-of-the-art|easily|simply)`),
	} {
		for path, text := range clitest.Docs(t) {
			for line := range strings.Lines(text) {
				if unwanted.MatchString(line) {
					t.Errorf("%s: %s", path, strings.TrimSpace(line))
				}
			}
		}
	}
}

var (
	hyphenated = regexp.MustCompile("`([a-z]+(?:-[a-z]+)+)`")
	overridden = regexp.MustCompile(`--override ([a-z-]+)=`)
	gateRow    = regexp.MustCompile("(?m)^\\| `([a-z-]+)` \\| [^|]+ \\| ([^|]+) \\|$")
)

// gates are the names of all gates up to complete, each with the phases in which it is an
// interlock, as docs/operating.md writes them.
func gates(t *testing.T) map[string]string {
	t.Helper()
	m := &migration.Config{}
	m.Defaults()
	m.Capture.Mode = phases.CaptureBeside                        // has gates of its own
	locked, open := map[string]phases.Phase{}, map[string]bool{} // since which phase it is locked
	at := phases.Route{Phase: phases.Legacy}
	for at.Phase != phases.Complete {
		next, err := m.Phases.Next(at)
		if err != nil {
			t.Fatal(err)
		}
		for _, g := range phases.Gates(next, m.Settings(), phases.Snapshot{Status: phases.Status{Route: at}}) {
			if _, since := locked[g.Gate]; g.Interlock && !since {
				locked[g.Gate] = next.Phase
			} else if !g.Interlock {
				open[g.Gate] = true
			}
		}
		at = next
	}
	words := map[string]string{}
	for name := range open {
		words[name] = "no"
	}
	for name, since := range locked {
		words[name] = "always"
		if open[name] {
			words[name] = "from `" + string(since) + "` on"
		}
	}
	return words
}

// noGates are other things whose names look like a gate's.
var noGates = []string{
	"webhook-id", "webhook-timestamp", "webhook-signature", // headers of Standard Webhooks
	phases.TriggerLostWrites, string(store.WrongType), "built-in", // the drill's load
	"min-replicas-to-write", // of Redis
}

// TestGatesInDocs: docs/operating.md has every gate, and no document has another.
func TestGatesInDocs(t *testing.T) {
	t.Parallel()
	known := gates(t)
	_, section, ok := strings.Cut(clitest.Docs(t)["docs/operating.md"], "\n### The gates\n")
	if !ok {
		t.Fatal("docs/operating.md has no section of gates")
	}
	section, _, _ = strings.Cut(section, "\n#")
	described := map[string]string{}
	for _, m := range gateRow.FindAllStringSubmatch(section, -1) {
		described[m[1]] = m[2]
	}
	for name, interlock := range known {
		if described[name] != interlock {
			t.Errorf("the gate %s: interlock %q, docs/operating.md has %q", name, interlock, described[name])
		}
	}
	for name := range described {
		if known[name] == "" {
			t.Errorf("docs/operating.md describes the gate %s, which does not exist", name)
		}
	}
	others := slices.Concat(words(phases.Order...), words(phases.Fenced, phases.Lifting, phases.Returning), words(hint.Actions()...), noGates)
	for _, f := range hint.Failures() {
		others = append(others, f.Code)
	}
	for _, code := range server.Codes() {
		others = append(others, string(code))
	}
	for path, text := range clitest.Docs(t) {
		for _, m := range append(hyphenated.FindAllStringSubmatch(text, -1), overridden.FindAllStringSubmatch(text, -1)...) {
			if known[m[1]] == "" && !slices.Contains(others, m[1]) {
				t.Errorf("%s: %s is no gate, phase or action", path, m[1])
			}
		}
	}
}

// TestExampleSettings: configs/migrator.yaml is read, and names every setting.
func TestExampleSettings(t *testing.T) {
	t.Parallel()
	o := &clitest.Operator{T: t, Dir: t.TempDir()}
	text, err := os.ReadFile(filepath.Join(clitest.Root(), "configs", "migrator.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	o.Write("settings.yaml", string(text))
	code, stdout, stderr := o.Try("config", "settings")
	if code != clitest.Done {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	for line := range strings.Lines(stdout) {
		if name := strings.Fields(line)[0]; name != "SETTING" && !strings.Contains(string(text), name+":") {
			t.Errorf("configs/migrator.yaml does not mention %s", name)
		}
	}
	if !strings.Contains(stdout, "/run/secrets/migrator_state_url") {
		t.Errorf("the settings were not taken:\n%s", stdout)
	}
}

func words[W ~string](list ...W) []string {
	texts := make([]string, len(list))
	for i, w := range list {
		texts[i] = string(w)
	}
	return texts
}
