package humanize_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// plural is a number before a noun in the plural, as a sentence's subject: of 1 it reads "1 keys are".
var plural = regexp.MustCompile(`"[^"\n]*%d (?:of %d )?(?:instances|leases|keys|records|rows|operations|sessions)(?: \([^)]*\))? (?:are|have|were|use|move|expired|can't|still)\b[^"\n]*"`)

// TestNoSubjectIsAlwaysPlural: Counted and Either make such sentences.
func TestNoSubjectIsAlwaysPlural(t *testing.T) {
	t.Parallel()
	root := filepath.Join("..", "..")
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(root, path)
		if d.IsDir() && (d.Name() == ".git" || name == filepath.Join("internal", "test")) {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		text, err := os.ReadFile(path)
		for _, found := range plural.FindAllString(string(text), -1) {
			t.Errorf("%s: %s", name, found)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
