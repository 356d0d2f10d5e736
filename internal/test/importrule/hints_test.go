package importrule

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// remedyInText lists the packages whose texts have a remedy after "; try: ".
var remedyInText = map[string]string{
	"internal/statedb": "installed functions of the schema raise such messages",
}

// knowsCommands lists the library files that name a command, a variable or a flag of the
// program: with the literal's beginning, and why.
var knowsCommands = map[string]string{
	"internal/app/runbook_executor.go MIGRATOR_":                                            "the variables that a step's program gets",
	"internal/daemon/maintenance.go migrator serve":                                         "the name of an instance",
	"internal/drill/rehearsed.go the load of migrator drill":                                "the name of an instance",
	"internal/failpoint/on.go MIGRATOR_FAILPOINT":                                           "the variable that it reads",
	"internal/sqlconsole/console.go migrator runbook verify":                                "the name of a connection",
	"phases/gate_settings.go yaml:\"within\"":                                               "describes a setting",
	"store/postgres/fence_triggers.go \nCREATE OR REPLACE FUNCTION migrator_legacy.fence()": "PostgreSQL's own hint, for a client that no program of migrator serves",
}

var (
	aCommand  = regexp.MustCompile(`\bmigrator (init|plan|apply|status|phase|history|gate|trigger|fleet|backfill|reconcile|worker|drill|rollback|runbook|serve|config|doctor|demo)\b`)
	aVariable = regexp.MustCompile(`\bMIGRATOR_[A-Z]`)
	aFlag     = regexp.MustCompile(`(^|[\s"'(=])--[a-z]`)
)

// literals calls yield with each string of the files that are not tests.
func literals(t *testing.T, yield func(file string, line int, text string)) {
	t.Helper()
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
		if e.IsDir() || !strings.HasSuffix(p, ".go") || strings.HasSuffix(p, "_test.go") {
			return nil
		}
		name, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, p, nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
				if text, err := strconv.Unquote(lit.Value); err == nil {
					yield(filepath.ToSlash(name), fset.Position(lit.Pos()).Line, text)
				}
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestARemedyIsAHint: no error's text contains its remedy.
func TestARemedyIsAHint(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	literals(t, func(file string, line int, text string) {
		if !strings.Contains(text, "; try:") && !strings.Contains(text, "; try ") {
			return
		}
		dir := path.Dir(file)
		if seen[dir] = true; remedyInText[dir] == "" {
			t.Errorf("%s:%d: %q: give the error a hint (package internal/hint)", file, line, text)
		}
	})
	for dir := range remedyInText {
		if !seen[dir] {
			t.Errorf("%s is converted: remove it from the list", dir)
		}
	}
}

// TestLibrariesKnowNoCommandLine: they name an action, and cmd/migrator the command.
func TestLibrariesKnowNoCommandLine(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	literals(t, func(file string, line int, text string) {
		for _, program := range []string{"cmd/", "examples/", "internal/test/"} {
			if strings.HasPrefix(file, program) {
				return
			}
		}
		if !aCommand.MatchString(text) && !aVariable.MatchString(text) && !aFlag.MatchString(text) {
			return
		}
		for start := range knowsCommands {
			if strings.HasPrefix(fmt.Sprintf("%s %s", file, text), start) {
				seen[start] = true
				return
			}
		}
		t.Errorf("%s:%d: %q: give the error a hint (package internal/hint)", file, line, text)
	})
	for start := range knowsCommands {
		if !seen[start] {
			t.Errorf("the exception is not needed any more: %s", start)
		}
	}
}
