package openstore

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/stranglerfig/migrator/"

// knows lists who may know stores by name besides their own folders and this package.
// Each entry is a folder with all below it.
var knows = []struct{ folder, because string }{
	{"dual/dualtest", "it disturbs a real PostgreSQL, and its target is in memory"},
	{"internal/capture", "it reads the log of PostgreSQL, and of no other store"},
	{"examples", "an application chooses its stores, and links those alone"},
	{"internal/test", "tests start the servers of real stores"},
}

// drivers are libraries that reach a store. PostgreSQL's is not among them: the
// operators' state lives in PostgreSQL, whichever stores a migration has.
var drivers = []string{"github.com/redis/go-redis"}

// TestOnlyThisPackageKnowsTheStores: no code outside of a store's folder imports it, or
// asks for its kind by name. So a new store is one folder and one line of Kinds.
func TestOnlyThisPackageKnowsTheStores(t *testing.T) {
	t.Parallel()
	root := filepath.Join("..", "..")
	stores := storesOf(t, root)
	files := 0
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		name = filepath.ToSlash(name)
		if e.IsDir() && (e.Name() == "testdata" || name != "." && strings.HasPrefix(e.Name(), ".")) {
			return fs.SkipDir
		}
		if e.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		files++
		source, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, broken := range breaches(t, name, source, stores) {
			t.Error(broken)
		}
		return nil
	})
	if err != nil || files < 100 {
		t.Fatalf("%d files, %v", files, err)
	}
}

// storesOf are the folders of store, but for the suite.
func storesOf(t *testing.T, root string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(root, "store"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.IsDir() && e.Name() != "storetest" {
			names = append(names, e.Name())
		}
	}
	for _, k := range Kinds() {
		if !slices.Contains(names, k.Name) {
			t.Errorf("there is no folder store/%s", k.Name)
		}
	}
	return names
}

// breaches says where a file knows a store that it should not.
func breaches(t *testing.T, name string, source []byte, stores []string) (found []string) {
	t.Helper()
	if within(name, "internal/openstore") || slices.ContainsFunc(knows, func(k struct{ folder, because string }) bool { return within(name, k.folder) }) {
		return nil
	}
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, name, source, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(file, func(n ast.Node) bool {
		literal, ok := n.(*ast.BasicLit)
		if !ok || literal.Kind != token.STRING {
			return true
		}
		text, err := strconv.Unquote(literal.Value)
		if err != nil {
			t.Fatal(err)
		}
		for _, store := range stores {
			if !within(name, "store/"+store) && (text == store || within(text, module+"store/"+store)) {
				found = append(found, files.Position(literal.Pos()).String()+": only store/"+store+" and internal/openstore know "+strconv.Quote(text))
			}
		}
		for _, driver := range drivers {
			if within(text, driver) && !within(name, "store") {
				found = append(found, files.Position(literal.Pos()).String()+": only stores import "+driver)
			}
		}
		return true
	})
	return found
}

func within(path, folder string) bool { return path == folder || strings.HasPrefix(path, folder+"/") }

func TestBreachesAreSeen(t *testing.T) {
	t.Parallel()
	stores := []string{"redis", "postgres"}
	for source, want := range map[string]int{
		`package main; import _ "` + module + `store/redis"`:           1,
		`package main; import _ "` + module + `store/redis/internal"`:  1,
		`package main; import _ "` + module + `store/storetest"`:       0,
		`package main; import _ "` + module + `store"`:                 0,
		`package main; import _ "github.com/redis/go-redis/v9"`:        1,
		`package main; import _ "github.com/jackc/pgx/v5"`:             0,
		`package main; var sql = m.Target.Store == "postgres"`:         1,
		`package main; var text = "a postgres, or postgres://h"`:       0,
		"package main; var kind = map[string]bool{`redis`: true}":      1,
		`package main; var both = "redis" + "postgres" /* "redis" */;`: 2,
	} {
		if got := breaches(t, "cmd/migrator/a.go", []byte(source), stores); len(got) != want {
			t.Errorf("%s: %q, want %d", source, got, want)
		}
		for _, name := range []string{"internal/openstore/a.go", "examples/a/a.go", "internal/test/a/a.go"} {
			if got := breaches(t, name, []byte(source), stores); len(got) != 0 {
				t.Errorf("%s: %s: %q", name, source, got)
			}
		}
	}
	if got := breaches(t, "store/redis/a.go", []byte(`package redis; var a, b = "redis", "postgres"`), stores); len(got) != 1 {
		t.Errorf("one store of another: %q", got)
	}
}
