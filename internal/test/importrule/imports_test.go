package importrule

import (
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const root = "../../.."

// check returns one sentence for each import in the file that breaks the table.
// name is the file's path in the module, with slashes.
func check(name string, src []byte) ([]string, error) {
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, name, src, parser.ImportsOnly)
	if err != nil {
		return nil, err
	}
	var broken []string
	dir, test := path.Dir(name), strings.HasSuffix(name, "_test.go")
	if may[dir] == nil {
		broken = append(broken, fmt.Sprintf("%s:1: the package %s has no row in internal/test/importrule/layers_test.go", name, dir))
	}
	for _, spec := range file.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return nil, err
		}
		if why := refuse(dir, imported, test); why != "" {
			broken = append(broken, fmt.Sprintf("%s:%d: %s", name, fset.Position(spec.Pos()).Line, why))
		}
	}
	return broken, nil
}

// refuse names the rule that forbids an import; "": none.
func refuse(dir, imported string, test bool) string {
	for lib, place := range only {
		if under(imported, lib) && dir != place {
			return fmt.Sprintf("%s imports %s, which is for %s alone", dir, imported, place)
		}
	}
	ours, ok := strings.CutPrefix(imported, module+"/")
	switch allowed := may[dir]; {
	case !ok || ours == dir || allowed[ours]:
		return ""
	case test && !pure[dir]:
		// A test uses real stores, the real state, and its package's neighbours.
		if strings.HasPrefix(ours, "cmd/") {
			return fmt.Sprintf("%s imports %s: build and run the program instead", dir, ours)
		}
		return ""
	case strings.HasPrefix(ours, "internal/test/") && !strings.HasPrefix(dir, "internal/test/") && !strings.HasPrefix(dir, "examples/"):
		return fmt.Sprintf("%s imports %s, which is for tests and examples", dir, ours)
	case allowed["*"] && !strings.HasPrefix(ours, "cmd/"):
		return ""
	default:
		return fmt.Sprintf("%s imports %s, which its row in internal/test/importrule/layers_test.go does not list", dir, ours)
	}
}

// under also holds for /v2 and the like.
func under(imported, lib string) bool { return imported == lib || strings.HasPrefix(imported, lib+"/") }

func TestEveryImportIsInTheTable(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	err := filepath.WalkDir(root, func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.IsDir() && p != root {
			_, nested := os.Stat(filepath.Join(p, "go.mod"))
			if nested == nil || e.Name() == "testdata" || strings.HasPrefix(e.Name(), ".") || strings.HasPrefix(e.Name(), "_") {
				return filepath.SkipDir
			}
		}
		if e.IsDir() || !strings.HasSuffix(p, ".go") {
			return nil
		}
		name, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		src, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		broken, err := check(filepath.ToSlash(name), src)
		if err != nil {
			return err
		}
		for _, sentence := range broken {
			t.Error(sentence)
		}
		seen[path.Dir(filepath.ToSlash(name))] = true
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for dir, allowed := range may {
		if !seen[dir] {
			t.Errorf("the table has a row for %s, which does not exist", dir)
		}
		for p := range allowed {
			if p != "*" && may[p] == nil {
				t.Errorf("the row of %s lists %s, which does not exist", dir, p)
			}
		}
	}
}

// TestTheTableHasNoCircle: no package may import itself through others.
func TestTheTableHasNoCircle(t *testing.T) {
	t.Parallel()
	var visit func(p string, path []string)
	done := map[string]bool{}
	visit = func(p string, path []string) {
		if slices.Contains(path, p) {
			t.Errorf("a circle: %s", strings.Join(append(path, p), " -> "))
			return
		}
		if done[p] {
			return
		}
		for next := range may[p] {
			if next != "*" {
				visit(next, append(path, p))
			}
		}
		done[p] = true
	}
	for p := range may {
		visit(p, nil)
	}
}

func TestTheCheckSeesWhatBreaksTheTable(t *testing.T) {
	t.Parallel()
	const ours, cobra = module + "/", "github.com/spf13/cobra"
	for _, c := range []struct{ file, imports, want string }{
		{"record/a.go", "math", ""},
		{"record/a.go", ours + "phases", "record imports phases"},
		{"phases/a_test.go", ours + "dual", "phases imports dual"}, // pure: tests too
		{"migration/a.go", ours + "store/redis", "migration imports store/redis"},
		{"dual/a.go", ours + "migration", "dual imports migration"},
		{"dual/a.go", ours + "internal/state", "dual imports internal/state"},
		{"dual/a_test.go", ours + "store/postgres", ""},
		{"dual/pgfleet/a.go", ours + "internal/state", "dual/pgfleet imports internal/state"},
		{"store/redis/a.go", ours + "store/postgres", "store/redis imports store/postgres"},
		{"store/redis/a_test.go", ours + "store/storetest", ""},
		{"reconcile/a.go", ours + "runbook", "reconcile imports runbook"},
		{"reconcile/a.go", ours + "internal/state", "reconcile imports internal/state"},
		{"internal/pgfail/a.go", ours + "internal/state", "internal/pgfail imports internal/state"},
		{"internal/glue/a.go", ours + "internal/state", "internal/glue has no row"},
		{"internal/state/a.go", ours + "internal/test/testenv", "for tests and examples"},
		{"internal/state/a_test.go", ours + "internal/test/testenv", ""},
		{"cmd/migrator/a.go", ours + "internal/test/testenv", "for tests and examples"},
		{"examples/demo/a.go", ours + "internal/test/testenv", ""},
		{"internal/daemon/a_test.go", ours + "cmd/migrator", "build and run the program"},
		{"cmd/migrator/main.go", cobra, ""},
		{"internal/daemon/a.go", cobra, "for cmd/migrator alone"},
		{"internal/daemon/a_test.go", "github.com/spf13/viper", "for cmd/migrator alone"},
	} {
		got, err := check(c.file, []byte("package p\n\nimport _ \""+c.imports+"\"\n"))
		if err != nil {
			t.Fatal(err)
		}
		switch all := strings.Join(got, "\n"); {
		case c.want == "" && all != "":
			t.Errorf("%s imports %s: refused: %s", c.file, c.imports, all)
		case c.want != "" && !strings.Contains(all, c.want):
			t.Errorf("%s imports %s: want %q, got %q", c.file, c.imports, c.want, all)
		case c.want != "" && !strings.HasPrefix(all, c.file+":"):
			t.Errorf("no file and line in %q", all)
		}
	}
}
