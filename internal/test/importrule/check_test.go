package importrule

import (
	"fmt"
	"go/parser"
	"go/token"
	"path"
	"slices"
	"strconv"
	"strings"
)

const module = "github.com/stranglerfig/migrator"

// may lists, per top-level folder, the folders that its code may import besides
// itself. A folder that is in none of the lists is not placed yet.
var may = func() map[string][]string {
	m := map[string][]string{
		"stats":    {},
		"record":   {},
		"evidence": {"stats"},
		"phases":   {"record", "evidence"},
		"spec":     {"record", "phases"},
		"repair":   {"record"},
		"dual":     {"stats", "record", "evidence", "phases"},
	}
	for _, capability := range []string{"reconcile", "replicate", "runbook", "control", "judge"} {
		m[capability] = []string{"stats", "record", "evidence", "phases", "spec", "repair"}
	}
	m["drill"] = []string{"stats", "record", "evidence", "phases", "spec", "repair", "dual"} // its load is an instance
	inner := []string{"stats", "record", "evidence", "phases", "spec", "repair", "dual", "reconcile", "replicate", "runbook", "control", "judge", "drill"}
	for _, outer := range []string{"state", "stores", "sources", "metrics", "server"} {
		m[outer] = inner
	}
	return m
}()

// heavy are the libraries that an application which embeds dual must not get.
var heavy = []string{
	"github.com/jackc/pgx", "github.com/redis/go-redis", "github.com/spf13/cobra", "github.com/spf13/viper",
	"go.yaml.in/yaml", "gopkg.in/yaml",
}

// check returns one sentence for each import in the file that breaks the rule.
// name is the file's path in the module, with slashes.
func check(name string, src []byte) ([]string, error) {
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, name, src, parser.ImportsOnly)
	if err != nil {
		return nil, err
	}
	var broken []string
	for _, spec := range file.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return nil, err
		}
		if why := refuse(name, imported); why != "" {
			broken = append(broken, fmt.Sprintf("%s:%d: %s", name, fset.Position(spec.Pos()).Line, why))
		}
	}
	if why := unplaced(name); why != "" {
		broken = append(broken, fmt.Sprintf("%s:1: %s", name, why))
	}
	return broken, nil
}

func top(p string) string {
	first, _, _ := strings.Cut(p, "/")
	return first
}

func isWiring(dir string) bool { return slices.Contains([]string{"cmd", "examples"}, top(dir)) }

func unplaced(name string) string {
	folder := top(path.Dir(name))
	if folder == "." || folder == "internal" || isWiring(folder) || may[folder] != nil {
		return ""
	}
	return fmt.Sprintf("the folder %s has no place among the layers; give it one in internal/importrule/check_test.go", folder)
}

// refuse says which rule forbids the file to import the path, or nothing.
func refuse(name, imported string) string {
	dir, test := path.Dir(name), strings.HasSuffix(name, "_test.go")
	if under(imported, module) {
		return refuseOurs(dir, strings.TrimPrefix(strings.TrimPrefix(imported, module), "/"), test)
	}
	for _, lib := range []string{"github.com/spf13/cobra", "github.com/spf13/viper"} {
		if under(imported, lib) && !underDir(dir, "cmd/migrator") {
			return fmt.Sprintf("%s imports %s, which is for cmd/migrator alone", dir, imported)
		}
	}
	if !test && slices.Contains([]string{"dual", "phases", "record", "stats"}, top(dir)) {
		for _, lib := range heavy {
			if under(imported, lib) {
				return fmt.Sprintf("%s imports %s, but applications embed it: no databases, no YAML, no command line", dir, imported)
			}
		}
	}
	return ""
}

func refuseOurs(dir, imported string, test bool) string {
	if underDir(imported, "internal/testenv") {
		if test || isWiring(dir) || underDir(dir, "stores/storetest") || top(dir) == "internal" {
			return ""
		}
		return dir + " imports internal/testenv, which is for tests, stores/storetest, cmd/migrator and examples"
	}
	switch {
	case isWiring(dir), dir == ".", top(dir) == "internal", top(imported) == "internal":
		return ""
	case test && underDir(imported, "stores"), test && !pure(dir) && top(dir) != "stores" && !isWiring(imported):
		return "" // tests use real stores, and a capability's the real state and its neighbours
	case top(dir) == top(imported):
		if top(dir) == "stores" {
			return refuseStore(dir, imported, test)
		}
		return ""
	case slices.Contains(may[top(dir)], top(imported)):
		return ""
	}
	return fmt.Sprintf("%s imports %s, but %s may import only %s", dir, imported, top(dir), listed(may[top(dir)]))
}

// refuseStore keeps the stores apart: stores itself, which switches between them,
// and tests know them all; stores/internal and stores/storetest are for all.
func refuseStore(dir, imported string, test bool) string {
	own, other := strings.Split(dir, "/"), strings.Split(imported, "/")
	switch {
	case test, len(own) == 1, len(other) > 1 && own[1] == other[1]:
		return ""
	case len(other) > 1 && other[1] == "internal":
		return ""
	}
	return fmt.Sprintf("%s imports %s, but a store imports no other: what they share belongs in stores/internal", dir, imported)
}

// pure folders do no I/O, and their tests need none.
func pure(dir string) bool {
	return slices.Contains([]string{"stats", "record", "phases", "spec", "repair"}, top(dir))
}

func listed(folders []string) string {
	if len(folders) == 0 {
		return "the standard library and other modules"
	}
	return strings.Join(folders, ", ")
}

// under also holds for /v2 and the like.
func under(imported, root string) bool {
	return imported == root || strings.HasPrefix(imported, root+"/")
}

func underDir(dir, root string) bool { return dir == root || strings.HasPrefix(dir, root+"/") }
