package clitest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/stranglerfig/migrator/examples/storefront/command"
	"github.com/stranglerfig/migrator/internal/test/testenv"
)

// Main is the TestMain of a package whose tests run migrator: it builds the program for
// them, unless it is given as a function, and puts it and the storefront on their PATH.
// It stops the tests' servers and exits.
func Main(m testenv.M, migrator func()) {
	programs := map[string]func(){"storefront": storefront}
	if migrator != nil {
		programs["migrator"] = migrator
	}
	if programs[filepath.Base(os.Args[0])] == nil { // testscript makes temporary files before it runs the tests
		if err := testenv.Scratch(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	testscript.Main(runner{m, migrator == nil}, programs)
}

type runner struct {
	m     testenv.M
	build bool
}

// Run implements testscript.TestingM. It is not called in a process that is one of the programs.
func (r runner) Run() int {
	if !r.build {
		return testenv.Run(r.m)
	}
	dir, err := os.MkdirTemp("", "migrator-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	build := exec.Command("go", "build", "-o", filepath.Join(dir, "migrator"), "github.com/stranglerfig/migrator/cmd/migrator") //nolint:gosec // ours
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build migrator: %v\n%s", err, out)
		return 1
	}
	if err := os.Setenv("PATH", dir+string(filepath.ListSeparator)+os.Getenv("PATH")); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return testenv.Run(r.m)
}

// storefront is the shop of examples/storefront, as a program.
func storefront() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := command.Run(ctx, os.Args[1:], command.IO{Out: os.Stdout, Err: os.Stderr, Getenv: os.Getenv})
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "Error:", err)
		os.Exit(1)
	}
}

// Root is the module's folder.
func Root() string {
	dir, err := os.Getwd()
	for err == nil {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		if dir == filepath.Dir(dir) {
			break
		}
		dir = filepath.Dir(dir)
	}
	panic("these tests run inside the module's folder")
}

// Docs are the documents, by their paths from the module's folder.
func Docs(t testing.TB) map[string]string {
	t.Helper()
	root := Root()
	found := map[string]string{}
	for _, pattern := range []string{"*.md", "docs/*.md"} {
		files, err := filepath.Glob(filepath.Join(root, filepath.FromSlash(pattern)))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: no documents: %v", pattern, err)
		}
		for _, path := range files {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			name, err := filepath.Rel(root, path)
			if err != nil {
				t.Fatal(err)
			}
			found[filepath.ToSlash(name)] = string(data)
		}
	}
	return found
}
