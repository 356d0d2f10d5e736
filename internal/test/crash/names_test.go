//go:build unix

package crash

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// failpoints reads the names from the module's source, with their positions. A name that is
// not a literal, or that is used twice, fails the test.
func failpoints(t *testing.T) map[string]string {
	t.Helper()
	names := map[string]string{}
	root := filepath.Join("..", "..", "..")
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != root && strings.HasPrefix(d.Name(), "."):
			return filepath.SkipDir
		case d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go"):
			return nil
		}
		src, err := os.ReadFile(path)
		if err != nil || !bytes.Contains(src, []byte("internal/failpoint")) {
			return err
		}
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, path, src, 0)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			if f, ok := call.Fun.(*ast.SelectorExpr); !ok || f.Sel.Name != "Here" {
				return true
			}
			at := fset.Position(call.Pos()).String()
			literal, ok := call.Args[0].(*ast.BasicLit)
			if !ok || literal.Kind != token.STRING {
				t.Errorf("%s: the failpoint's name is not a literal", at)
				return true
			}
			name, err := strconv.Unquote(literal.Value)
			if err != nil {
				t.Errorf("%s: %v", at, err)
			}
			if other := names[name]; other != "" {
				t.Errorf("%s: the failpoint %s is at %s too", at, name, other)
			}
			names[name] = at
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// TestEveryFailpointHasAScenario, and every scenario has a failpoint.
func TestEveryFailpointHasAScenario(t *testing.T) {
	t.Parallel()
	names, all := failpoints(t), scenarios()
	if len(names) < 30 {
		t.Errorf("only %d failpoints found in the source", len(names))
	}
	for name, at := range names {
		if _, ok := all[name]; !ok {
			t.Errorf("%s: no scenario kills a process at %s; add one to scenarios_test.go", at, name)
		}
	}
	for name := range all {
		if names[name] == "" {
			t.Errorf("scenario without a failpoint: %s", name)
		}
	}
}

// TestReleasesHaveNoFailpoints: a build without the tag has none of the names.
func TestReleasesHaveNoFailpoints(t *testing.T) {
	t.Parallel()
	release := filepath.Join(t.TempDir(), "migrator")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", release, "../../../cmd/migrator").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	read := func(path string) []byte {
		program, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return program
	}
	programs := programs(t)
	plain, deadly := read(release), append(read(programs.migrator), read(programs.app)...)
	for name := range failpoints(t) {
		if bytes.Contains(plain, []byte(name)) {
			t.Errorf("the release contains the failpoint %s", name)
		}
		if !bytes.Contains(deadly, []byte(name)) {
			t.Errorf("the test builds do not contain the failpoint %s", name)
		}
	}
}
