package docstest

import (
	"context"
	"io"
	"os"
	"os/exec"
	"path"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/internal/test/clitest"
	"github.com/stranglerfig/migrator/internal/test/testenv"
)

const module = "github.com/stranglerfig/migrator"

// consoleBlock is a block of commands that a reader may type.
var consoleBlock = regexp.MustCompile("(?s)```console\n(.*?)```")

// TestDocumentedCommandsWork runs every command of every console block, in the
// order of each document, on real stores.
func TestDocumentedCommandsWork(t *testing.T) {
	t.Parallel()
	cutover := func(r *reader) { // half way
		r.env = append(r.env, "MIGRATOR_FILE=products.yaml")
		r.o.Does("init", "apply", "phase advance", "backfill run", "phase advance", "reconcile run --full", "phase advance")
	}
	prepare := map[string]func(*reader){"operating.md": cutover, "runbooks.md": cutover}
	prepare["reconcile.md"] = func(r *reader) {
		r.env = append(r.env, "MIGRATOR_FILE=products.yaml")
		r.o.Does("init", "apply", "phase advance", "backfill run")
	}
	for name, text := range clitest.Docs(t) {
		blocks := consoleBlock.FindAllStringSubmatch(text, -1)
		if len(blocks) == 0 {
			continue
		}
		t.Run(path.Base(name), func(t *testing.T) {
			t.Parallel()
			r := &reader{t: t, o: documented(t)}
			if f := prepare[path.Base(name)]; f != nil {
				f(r)
			}
			for _, block := range blocks {
				for line := range strings.Lines(block[1]) {
					r.types(strings.TrimSpace(line))
				}
			}
		})
	}
}

// documented has the table products and products.yaml, without waiting times.
func documented(t *testing.T) *clitest.Operator {
	o := clitest.New(t, "products", "  table: products\n", "  key: product:{id}\n", `
phases:
  shadow_write: {for: 0s}
  dual_read: {steps: [100], over: 0s}
  cutover: {steps: [50, 100], over: 0s}
  approval: {for: []}
gates: {off: a test without traffic}
writing: {not_after: 1s, deadline: 500ms}
`)
	o.SQL(o.Legacy, `CREATE TABLE products (id bigint PRIMARY KEY, name text NOT NULL);
		INSERT INTO products SELECT i, 'Product ' || i FROM generate_series(1, 100) i`)
	text, err := os.ReadFile(o.Path("migration.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(o.Path("reader"), 0o700); err != nil {
		t.Fatal(err)
	}
	// No migration.yaml in the working directory, since the documents mention none.
	o.Write("reader/products.yaml", strings.NewReplacer("legacy.url", "../legacy.url", "target.url", "../target.url").Replace(string(text)))
	return o
}

// reader runs the commands of a document.
type reader struct {
	t   *testing.T
	o   *clitest.Operator
	env []string
}

func (r *reader) types(line string) {
	words := clitest.ShellWords(line)
	if len(words) == 0 {
		return
	}
	switch words[0] {
	case "export":
		name, value, ok := strings.Cut(words[1], "=")
		if !ok || len(words) != 2 {
			r.t.Fatalf("%s: want export NAME=value", line)
		}
		if !strings.Contains(value, "…") { // else a reader must fill it in
			r.env = append(r.env, name+"="+value)
		}
	case "make":
		r.recipe(line, words[1:])
	case "bin/migrator":
		if recipe := r.recipe(line, []string{"build"}); !strings.Contains(recipe, " -o bin/migrator ") {
			r.t.Errorf("%s: make build does not write bin/migrator: %s", line, recipe)
		}
		r.runs(line, words[1:])
	case "migrator":
		r.runs(line, words[1:])
	case "git":
		if len(words) != 3 || words[1] != "clone" || words[2] != "https://"+module {
			r.t.Errorf("%s: want git clone https://%s", line, module)
		}
	case "cd":
		if len(words) != 2 || words[1] != path.Base(module) {
			r.t.Errorf("%s: a clone is the folder %s", line, path.Base(module))
		}
	case "go":
		at, version, _ := strings.Cut(words[len(words)-1], "@")
		if words[1] != "install" || version != "latest" {
			r.t.Errorf("%s: want go install PACKAGE@latest", line)
		}
		if name := r.output(line, "go", "list", "-f", "{{.Name}}", at); strings.TrimSpace(name) != "main" {
			r.t.Errorf("%s: %s is the package %s", line, at, name)
		}
	case "sh":
		r.output(line, "sh", "-n", words[1])
	default:
		r.t.Errorf("%s: unknown command %s", line, words[0])
	}
}

// recipe is what make would run.
func (r *reader) recipe(line string, targets []string) string {
	return r.output(line, "make", append([]string{"-n"}, targets...)...)
}

// output runs a program in the module's folder.
func (r *reader) output(line, program string, args ...string) string {
	cmd := exec.CommandContext(r.t.Context(), program, args...)
	cmd.Dir = clitest.Root()
	out, err := cmd.CombinedOutput()
	if err != nil {
		r.t.Errorf("%s: %v: %v\n%s", line, cmd, err, out)
	}
	return string(out)
}

func (r *reader) runs(line string, args []string) {
	ctx, cancel := context.WithTimeout(r.t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "migrator", args...)
	cmd.Dir = r.o.Path("reader")
	cmd.Env = append(append(os.Environ(), "MIGRATOR_STATE_URL="+r.o.State, "NO_COLOR=1"), r.env...)
	var out testenv.Buffer // two goroutines write it where stdout is not stderr
	cmd.Stdout, cmd.Stderr = &out, &out
	watches := strings.Contains(line, "--watch")
	if watches { // until Ctrl-C
		cmd.Stdout = &interrupter{to: &out, at: func() { _ = cmd.Process.Signal(os.Interrupt) }}
	}
	if err := cmd.Run(); err != nil {
		r.t.Errorf("%s: %v\n%s", line, err, out.String())
	}
}

// interrupter calls at with the first bytes.
type interrupter struct {
	to   io.Writer
	at   func()
	once sync.Once
}

func (i *interrupter) Write(p []byte) (int, error) {
	i.once.Do(i.at)
	return i.to.Write(p)
}
