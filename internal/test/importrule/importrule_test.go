// Package importrule holds the test that keeps the layers apart: outer folders
// import inner ones, never the reverse, and folders of one layer not each other.
package importrule

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestEveryImportPointsInwards(t *testing.T) {
	root := filepath.Join("..", "..", "..")
	if _, err := os.Stat(filepath.Join(root, "go.mod")); err != nil {
		t.Fatalf("the module's root is not three folders up: %v", err)
	}
	files := 0
	err := filepath.WalkDir(root, func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.IsDir() && p != root {
			_, nested := os.Stat(filepath.Join(p, "go.mod"))
			if nested == nil || e.Name() == "testdata" || e.Name() == "vendor" || strings.HasPrefix(e.Name(), ".") || strings.HasPrefix(e.Name(), "_") {
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
		files++
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files == 0 {
		t.Fatal("no Go file was looked at")
	}
}

func TestCheckerSeesWhatBreaksTheRule(t *testing.T) {
	const ours, pgx, cobra = module + "/", "github.com/jackc/pgx/v5", "github.com/spf13/cobra"
	for _, c := range []struct{ file, imports, want string }{
		{"stats/a.go", "math", ""},
		{"stats/a.go", ours + "record", "stats may import only the standard library"},
		{"phases/a.go", ours + "evidence", ""},
		{"phases/a.go", ours + "stats", "phases may import only record, evidence"},
		{"phases/a.go", ours + "dual", "phases may import only record, evidence"},
		{"phases/a_test.go", ours + "dual", "phases may import only"},
		{"spec/a.go", ours + "phases", ""},
		{"spec/a.go", ours + "stores/redis", "spec may import only"},
		{"dual/a.go", ours + "spec", "dual may import only"},
		{"dual/a.go", ours + "dual/internal/queue", ""},
		{"dual/a.go", pgx, "applications embed it"},
		{"dual/a_test.go", pgx, ""},
		{"dual/a_test.go", ours + "stores/postgres", ""},
		{"record/a.go", "go.yaml.in/yaml/v3", "applications embed it"},
		{"reconcile/a.go", ours + "spec", ""},
		{"reconcile/a.go", ours + "repair", ""},
		{"dual/a.go", ours + "repair", "dual may import only"},
		{"reconcile/a.go", ours + "dual", "reconcile may import only"},
		{"control/a.go", ours + "runbook", "control may import only"},
		{"state/a.go", ours + "control", ""},
		{"state/a.go", ours + "stores/postgres", "state may import only"},
		{"server/a.go", ours + "metrics", "server may import only"},
		{"stores/stores.go", ours + "stores/redis", ""},
		{"stores/redis/a.go", ours + "stores/postgres", "a store imports no other"},
		{"stores/redis/a.go", ours + "stores", "a store imports no other"},
		{"stores/redis/a.go", ours + "stores/internal/script", ""},
		{"stores/redis/a_test.go", ours + "stores/storetest", ""},
		{"stores/redis/a.go", ours + "internal/testenv", "is for tests"},
		{"stores/storetest/a.go", ours + "internal/testenv", ""},
		{"state/a_test.go", ours + "internal/testenv", ""},
		{"cmd/migrator/demo.go", ours + "internal/testenv", ""},
		{"cmd/migrator/main.go", cobra, ""},
		{"cmd/other/main.go", cobra, "for cmd/migrator alone"},
		{"server/a.go", "github.com/spf13/viper", "for cmd/migrator alone"},
		{"examples/storefront/main.go", ours + "dual", ""},
		{"surprise/a.go", "fmt", "has no place among the layers"},
	} {
		src := "package p\n\nimport _ \"" + c.imports + "\"\n"
		got, err := check(c.file, []byte(src))
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
