package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// consoleBlock is a block of commands that a reader may type.
var consoleBlock = regexp.MustCompile("(?s)```console\n(.*?)```")

// shellWords splits a command line as a shell would, as far as documents go: quotes,
// and comments behind blanks.
func shellWords(line string) []string {
	var words []string
	var word strings.Builder
	quote, begun := rune(0), false
	end := func() {
		if begun {
			words = append(words, word.String())
		}
		word.Reset()
		begun = false
	}
	for _, r := range line {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote == 0 && (r == '\'' || r == '"'):
			quote, begun = r, true
		case quote == 0 && r == ' ':
			end()
		case quote == 0 && r == '#' && !begun:
			return words
		default:
			word.WriteRune(r)
			begun = true
		}
	}
	end()
	return words
}

func TestShellWords(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"":                                     "",
		"migrator  status   # look":            "migrator|status",
		"a --reason 'p99 of #1' \"x y\" b#c":   "a|--reason|p99 of #1|x y|b#c",
		"a --override soak-time='x y' '' # it": "a|--override|soak-time=x y|",
	} {
		if got := strings.Join(shellWords(line), "|"); got != want {
			t.Errorf("%q: %q, want %q", line, got, want)
		}
	}
}

// TestDocumentedCommandsWork runs every command of every console block, in the
// order of each document, on real stores.
func TestDocumentedCommandsWork(t *testing.T) {
	t.Parallel()
	cutover := func(r *reader) { // half way
		r.env = append(r.env, "MIGRATOR_FILE=products.yaml")
		r.o.does("init", "apply", "phase advance", "backfill run", "phase advance", "reconcile run --full", "phase advance")
	}
	prepare := map[string]func(*reader){"operating.md": cutover, "runbooks.md": cutover}
	prepare["reconcile.md"] = func(r *reader) {
		r.env = append(r.env, "MIGRATOR_FILE=products.yaml")
		r.o.does("init", "apply", "phase advance", "backfill run")
	}
	for path, text := range docs(t) {
		blocks := consoleBlock.FindAllStringSubmatch(text, -1)
		if len(blocks) == 0 {
			continue
		}
		t.Run(filepath.Base(path), func(t *testing.T) {
			t.Parallel()
			r := &reader{t: t, o: documented(t)}
			if f := prepare[filepath.Base(path)]; f != nil {
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

// documented has the table products and products.yaml, with clocks that don't wait.
func documented(t *testing.T) *operator {
	o := newOperator(t, "products", "  table: products\n", "  key: product:{id}\n", `
phases:
  shadow_write: {for: 0s}
  dual_read: {steps: [100], over: 0s}
  cutover: {steps: [50, 100], over: 0s}
  approval: {for: []}
gates: {off: a test without traffic}
writing: {not_after: 1s, deadline: 500ms}
`)
	o.sql(o.legacy, `CREATE TABLE products (id bigint PRIMARY KEY, name text NOT NULL);
		INSERT INTO products SELECT i, 'Product ' || i FROM generate_series(1, 100) i`)
	text, err := os.ReadFile(o.path("migration.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(o.path("reader"), 0o700); err != nil {
		t.Fatal(err)
	}
	// No migration.yaml where the reader is, as none is written of.
	o.write("reader/products.yaml", strings.NewReplacer("legacy.url", "../legacy.url", "target.url", "../target.url").Replace(string(text)))
	return o
}

// reader types what a document says.
type reader struct {
	t   *testing.T
	o   *operator
	env []string
}

func (r *reader) types(line string) {
	words := shellWords(line)
	if len(words) == 0 {
		return
	}
	switch words[0] {
	case "export":
		name, value, ok := strings.Cut(words[1], "=")
		if !ok || len(words) != 2 {
			r.t.Fatalf("%s: want export NAME=value", line)
		}
		if !strings.Contains(value, "…") { // else it is the reader's to fill in
			r.env = append(r.env, name+"="+value)
		}
	case "make":
		makefile, err := os.ReadFile("../../Makefile")
		if err != nil {
			r.t.Fatal(err)
		}
		for _, target := range words[1:] {
			if !bytes.Contains(makefile, []byte("\n"+target+":")) {
				r.t.Errorf("%s: there is no target %s", line, target)
			}
		}
	case "migrator":
		r.runs(line, words[1:])
	default:
		r.t.Errorf("%s: what is to be done with %s?", line, words[0])
	}
}

func (r *reader) runs(line string, args []string) {
	ctx, cancel := context.WithTimeout(r.t.Context(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "migrator", args...)
	cmd.Dir = r.o.path("reader")
	cmd.Env = append(append(os.Environ(), "MIGRATOR_STATE_URL="+r.o.state, "NO_COLOR=1"), r.env...)
	var out bytes.Buffer
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

// inlineCommand is a command within a sentence.
var inlineCommand = regexp.MustCompile("`(migrator [^`\n]+)`")

// TestMentionedCommandsExist: what documents mention within sentences has commands
// and flags that there are.
func TestMentionedCommandsExist(t *testing.T) {
	t.Parallel()
	for path, text := range docs(t) {
		for _, m := range inlineCommand.FindAllStringSubmatch(text, -1) {
			if err := understood(shellWords(m[1])); err != nil {
				t.Errorf("%s: %s: %v", path, m[1], err)
			}
		}
	}
}

// advised is a command that the program tells its user to try.
var advised = regexp.MustCompile("(?:try: |\", \")(migrator [a-z][^\"`+;,]*)")

// TestAdvisedCommandsExist looks at the advice in the sources.
func TestAdvisedCommandsExist(t *testing.T) {
	t.Parallel()
	found := 0
	err := filepath.WalkDir("../..", func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, m := range advised.FindAllStringSubmatch(string(data), -1) {
			found++
			if err := understood(shellWords(m[1])); err != nil {
				t.Errorf("%s: %s: %v", path, m[1], err)
			}
		}
		return nil
	})
	if err != nil || found < 20 {
		t.Errorf("%d pieces of advice: %v", found, err)
	}
}

// understood parses a command line without running it. A command that only holds
// others is one to be mentioned.
func understood(words []string) error {
	cmd, rest, err := newRoot(&cli{}).Find(words[1:])
	if err != nil {
		return err
	}
	if err := cmd.ParseFlags(rest); err != nil {
		// A flag at the end of a mention may stand for itself: --reason.
		last := words[len(words)-1]
		if !strings.HasPrefix(last, "--") || cmd.Flag(strings.TrimPrefix(last, "--")) == nil {
			return err
		}
		return nil
	}
	if left := cmd.Flags().Args(); cmd.HasSubCommands() && len(left) > 0 && cmd.Name() != "completion" {
		return fmt.Errorf("%w: %s", errNoCommand, left[0])
	}
	return nil
}

var errNoCommand = errors.New("there is no such command")

func TestUnderstoodKnowsWhatThereIsNot(t *testing.T) {
	t.Parallel()
	for line, good := range map[string]bool{
		"migrator phase":                         true,
		"migrator phase rollback --yes":          true,
		"migrator fleet evict INSTANCE --reason": true,
		"migrator phase forward":                 false,
		"migrator frobnicate":                    false,
		"migrator phase advance --force":         false,
		"migrator fleet evict INSTANCE --why":    false,
	} {
		if err := understood(shellWords(line)); (err == nil) != good {
			t.Errorf("%s: %v", line, err)
		}
	}
}
