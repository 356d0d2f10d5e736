package docstest

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stranglerfig/migrator/internal/test/clitest"
)

// TestJSONContract runs each command with -o json on real stores and compares what
// it prints with docs/json.md: every documented field is there, with its type, and
// no other. Exit codes are those that docs/cli.md has for the command.
func TestJSONContract(t *testing.T) {
	t.Parallel()
	c, err := clitest.ReadContract()
	if err != nil {
		t.Fatal(err)
	}
	o := clitest.New(t, "products", "  table: products\n", "  key: product:{id}\n", `
phases:
  dual_read: {steps: [100], over: 14d}
  cutover: {steps: [100], over: 2d}
gates:
  consistency: {off: a test without traffic}
  shadow_writes: {off: a test without traffic}
  target_reads: {off: a test without traffic}
  added_latency: {off: a test without traffic}
  bypass: {off: a test}
  custom: [{name: smoke, command: ["true"], before: [cutover]}]
writing: {not_after: 1s}
reconcile: {pause: 10ms}
`)
	o.SQL(o.Legacy, `CREATE TABLE products (id bigint PRIMARY KEY, name text NOT NULL, tags text[]);
		INSERT INTO products SELECT i, 'Product ' || i, '{a}' FROM generate_series(1, 200) i`)
	a := &audit{t: t, o: o, c: c, seen: map[string]bool{}, codes: map[string]map[int]bool{}}
	a.scenario()
	a.everything()
}

// audit checks one document after the other.
type audit struct {
	t     *testing.T
	o     *clitest.Operator
	c     *clitest.Contract
	seen  map[string]bool
	codes map[string]map[int]bool // by command, without its flags
}

// expect runs a command that must exit with the code. Its name in docs/json.md is
// the longest that the line begins with.
func (a *audit) expect(code int, args ...string) {
	a.t.Helper()
	line, name, bare := "migrator "+strings.Join(args, " "), "", ""
	for _, known := range slices.Sorted(maps.Keys(a.c.Commands)) {
		if line == known || strings.HasPrefix(line, known+" ") {
			name = known
			if !strings.Contains(known, " --") {
				bare = known
			}
		}
	}
	got, stdout, stderr := a.o.Try(append(slices.Clone(args), "-o", "json")...)
	if got != code {
		a.t.Fatalf("%s: exit code %d, want %d\n%s%s", line, got, code, stdout, stderr)
	}
	if a.codes[bare] == nil {
		a.codes[bare] = map[int]bool{}
	}
	a.codes[bare][code] = true
	if stdout != "" {
		a.seen[name] = true
		if err := a.c.Document(name, []byte(stdout)); err != nil {
			a.t.Errorf("%s: %v", line, err)
		}
	}
	if code == clitest.Done {
		return
	}
	lines := strings.Split(strings.TrimSpace(stderr), "\n")
	var p struct{ Code int }
	var v any
	last := []byte(lines[len(lines)-1])
	if err := json.Unmarshal(last, &p); err != nil || p.Code != code {
		a.t.Errorf("%s: the last line of stderr is no error document with code %d: %s", line, code, last)
	}
	_ = json.Unmarshal(last, &v)
	p.Code = 0
	if err := a.c.Object("stderr of "+line, "problem", withNumbers(v)); err != nil {
		a.t.Error(err)
	}
}

// withNumbers replaces the exit code by a json.Number, as all other numbers are.
func withNumbers(v any) any {
	if m, ok := v.(map[string]any); ok {
		m["code"] = json.Number("1")
	}
	return v
}
