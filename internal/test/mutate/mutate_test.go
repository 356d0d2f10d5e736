package mutate

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	envMutants = "MIGRATOR_MUTATE" // a regular expression of names: make mutate sets it
	results    = "docs/model.md"
	begins     = "<!-- the results of make mutate -->\n"
	ends       = "<!-- end of the results -->\n"
	caught     = "caught"
	limit      = 10 * time.Minute // of one mutant's tests
)

// mutant is a change of one place of the product that breaks a rule.
type mutant struct {
	rule     string // of docs/protocol.md
	what     string // is broken; with the rule its name
	file     string
	old, new string // old occurs once in the file
	pkg      string // with the tests that must fail
	run      string // their names
}

func (m mutant) name() string { return m.rule + ": " + m.what }

func root(t testing.TB) string {
	t.Helper()
	dir, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

var ruleRow = regexp.MustCompile(`(?m)^\| \*\*\[([a-z-]+)\]\*\* \|`)

// TestEveryRuleHasAMutant, and every mutant has a rule.
func TestEveryRuleHasAMutant(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(filepath.Join(root(t), "docs/protocol.md"))
	if err != nil {
		t.Fatal(err)
	}
	broken := map[string]int{}
	for _, m := range mutants {
		broken[m.rule]++
	}
	for _, m := range ruleRow.FindAllStringSubmatch(string(page), -1) {
		if broken[m[1]] == 0 {
			t.Errorf("[%s] has no mutant: a change of the product that breaks it, and the test that fails then, belong in mutants_test.go", m[1])
		}
		delete(broken, m[1])
	}
	for rule := range broken {
		t.Errorf("docs/protocol.md has no rule [%s]", rule)
	}
}

// TestMutantsApply: each changes one place, and names tests that exist.
func TestMutantsApply(t *testing.T) {
	t.Parallel()
	names := map[string]bool{}
	for _, m := range mutants {
		if names[m.name()] {
			t.Errorf("%s: two mutants have this name", m.name())
		}
		names[m.name()] = true
		if _, err := m.apply(root(t)); err != nil {
			t.Error(err)
		}
		if !m.hasTests(t) {
			t.Errorf("%s: %s has no test %s", m.name(), m.pkg, m.run)
		}
	}
}

// apply returns the changed file.
func (m mutant) apply(root string) ([]byte, error) {
	text, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(m.file)))
	if err != nil {
		return nil, err
	}
	if n := strings.Count(string(text), m.old); n != 1 || m.old == m.new {
		return nil, fmt.Errorf("%s: %s has %d times %q, which must be there once and be replaced", m.name(), m.file, n, m.old)
	}
	return []byte(strings.Replace(string(text), m.old, m.new, 1)), nil
}

var testName = regexp.MustCompile(`(?m)^func (Test[A-Za-z0-9_]+)\(t \*testing\.T\)`)

// hasTests reports whether the pattern names a test of the package.
func (m mutant) hasTests(t *testing.T) bool {
	t.Helper()
	top, _, _ := strings.Cut(m.run, "/")
	pattern, err := regexp.Compile(top)
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(root(t), filepath.FromSlash(m.pkg), "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range files {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range testName.FindAllSubmatch(text, -1) {
			if pattern.Match(f[1]) {
				return true
			}
		}
	}
	return false
}

// TestResultsAreCurrent: docs/model.md has a row for each mutant, and none that survived.
func TestResultsAreCurrent(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(root(t), results))
	if err != nil {
		t.Fatal(err)
	}
	head, rows, tail, err := split(string(text))
	if err != nil {
		t.Fatal(err)
	}
	if want := head + table(rows) + tail; want != string(text) {
		t.Errorf("%s does not list the mutants of today: run make mutate", results)
	}
	for name, result := range rows {
		if result != caught {
			t.Errorf("%s: %s in %s", name, result, results)
		}
	}
}

// split returns the page around the results, and the result of each mutant.
func split(page string) (head string, rows map[string]string, tail string, err error) {
	head, rest, ok := strings.Cut(page, begins)
	old, tail, ok2 := strings.Cut(rest, ends)
	if !ok || !ok2 {
		return "", nil, "", errors.New(results + " has no place for the results")
	}
	rows = map[string]string{}
	for line := range strings.Lines(old) {
		if cells := strings.Split(strings.Trim(line, "| \n"), " | "); len(cells) == 4 && strings.HasPrefix(cells[0], "[") {
			rows[strings.Trim(cells[0], "[]")+": "+cells[1]] = cells[3]
		}
	}
	return head + begins, rows, ends + tail, nil
}

// table has a row for each mutant. One that never ran is left out.
func table(rows map[string]string) string {
	var b strings.Builder
	b.WriteString("\n| rule | mutant | tests that must fail | result |\n|---|---|---|---|\n")
	for _, m := range mutants {
		if result := rows[m.name()]; result != "" {
			fmt.Fprintf(&b, "| [%s] | %s | `%s` of `%s` | %s |\n", m.rule, m.what, m.run, m.pkg, result)
		} else {
			fmt.Fprintf(&b, "| [%s] | %s | not run |\n", m.rule, m.what)
		}
	}
	return b.String() + "\n"
}

// TestMutants runs them. The long test of this package: make mutate.
func TestMutants(t *testing.T) {
	text := os.Getenv(envMutants)
	if text == "" {
		t.Skip(envMutants + " is not set: make mutate")
	}
	chosen, err := regexp.Compile(text)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	found := map[string]string{}
	t.Cleanup(func() { write(t, found) })
	sound := sync.Map{} // tests without a mutant, by command: a test that fails anyway proves nothing
	for _, m := range mutants {
		if !chosen.MatchString(m.name()) {
			continue
		}
		t.Run(m.name(), func(t *testing.T) {
			t.Parallel()
			alone, _ := sound.LoadOrStore(m.pkg+" "+m.run, sync.OnceValue(func() error { return m.test(t, "") }))
			if err := alone.(func() error)(); err != nil {
				t.Fatalf("without the mutant: %v", err)
			}
			err := m.test(t, m.overlay(t))
			var failed *failedError
			result := caught
			if !errors.As(err, &failed) {
				result = "survived"
				t.Errorf("it survives %s of %s (%v)", m.run, m.pkg, err)
			}
			mu.Lock()
			found[m.name()] = result
			mu.Unlock()
		})
	}
}

// overlay is the file that makes the go command read the changed file.
func (m mutant) overlay(t *testing.T) string {
	t.Helper()
	changed, err := m.apply(root(t))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	copied := filepath.Join(dir, "changed"+filepath.Ext(m.file))
	list, err := json.Marshal(map[string]map[string]string{"Replace": {filepath.Join(root(t), filepath.FromSlash(m.file)): copied}})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "overlay.json")
	for name, text := range map[string][]byte{copied: changed, path: list} {
		if err := os.WriteFile(name, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

// failedError is the failure of a test.
type failedError struct{ output string }

func (e *failedError) Error() string { return "a test failed:\n" + e.output }

// test runs the mutant's tests. An error other than a failedError is no verdict: the mutant does
// not compile, or the pattern names no test.
func (m mutant) test(t *testing.T, overlay string) error {
	ctx, cancel := context.WithTimeout(t.Context(), limit+time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "test", "-vet=off", "-failfast", "-timeout", limit.String(), "-run", m.run, "./"+m.pkg)
	cmd.Dir = root(t)
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, envMutants+"=") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	if overlay != "" { // also for the programs that the tests build
		cmd.Env = append(cmd.Env, "GOFLAGS="+strings.TrimSpace(os.Getenv("GOFLAGS")+" -overlay="+overlay))
	}
	out, err := cmd.CombinedOutput()
	switch {
	case err == nil && bytes.Contains(out, []byte("no tests to run")):
		return fmt.Errorf("no test of %s is named %s", m.pkg, m.run)
	case err == nil:
		return nil
	case bytes.Contains(out, []byte("--- FAIL: ")), bytes.Contains(out, []byte("panic: ")):
		return &failedError{string(out)}
	}
	return fmt.Errorf("%w\n%s", err, out)
}

// write writes the results into the page, beside those of mutants that did not run.
func write(t *testing.T, found map[string]string) {
	path := filepath.Join(root(t), results)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Error(err)
		return
	}
	head, rows, tail, err := split(string(text))
	if err != nil {
		t.Error(err)
		return
	}
	for name, result := range found {
		rows[name] = result
	}
	if err := os.WriteFile(path, []byte(head+table(rows)+tail), 0o600); err != nil {
		t.Error(err)
	}
}
