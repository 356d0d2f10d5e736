package wordrule

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// plainDocs are the documents, by their paths from the module's root.
var plainDocs = []string{
	"*.md", "examples/storefront/README.md", "configs/runbooks/*.md", "docs/*.md",
}

// notProse is what a document quotes: generated parts, blocks, code within a sentence.
// A block of runbooks within another one must be the document's last block.
var notProse = []*regexp.Regexp{
	regexp.MustCompile(`(?s)<!-- generated: .*?<!-- end of generated -->`), regexp.MustCompile("(?ms)^(```+).*?^```+$"), regexp.MustCompile("`[^`\n]*`"),
}

func TestDocsArePlain(t *testing.T) {
	t.Parallel()
	for _, pattern := range plainDocs {
		paths, err := filepath.Glob(filepath.Join(root, filepath.FromSlash(pattern)))
		if err != nil || len(paths) == 0 {
			t.Errorf("%s: no such document: %v", pattern, err)
		}
		for _, path := range paths {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			text := string(data)
			for _, quoted := range notProse {
				text = quoted.ReplaceAllString(text, "")
			}
			for line := range strings.Lines(text) {
				if word := unplain.FindString(line); word != "" {
					t.Errorf("%s: %q in: %s", path, word, strings.TrimSpace(line))
				}
			}
		}
	}
}

// plainFiles are other files that operators read, by their paths from the module's root.
var plainFiles = []string{
	"configs/*.yaml", "configs/runbooks/*.md", "configs/prometheus/*.yml", "configs/systemd/*", "configs/kubernetes/*", "scripts/*.sh", "Makefile",
	"store/redis/scripts/*.lua", ".github/workflows/*.yml",
}

func TestConfigsAndScriptsArePlain(t *testing.T) {
	t.Parallel()
	for _, pattern := range plainFiles {
		paths, err := filepath.Glob(filepath.Join(root, filepath.FromSlash(pattern)))
		if err != nil || len(paths) == 0 {
			t.Errorf("%s: no such file: %v", pattern, err)
		}
		for _, path := range paths {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			for line := range strings.Lines(string(data)) {
				if word := unwanted(line); word != "" {
					t.Errorf("%s: %q in: %s", path, word, strings.TrimSpace(line))
				}
			}
		}
	}
}

// docPath is a path of the repository that a document quotes.
var docPath = regexp.MustCompile("`((?:cmd|configs|dual|examples|internal|metrics|migration|phases|reconcile|record|runbook|scripts|store)/[a-zA-Z0-9_/.-]+\\.(?:go|sql|md|ya?ml|json|sh))`")

// TestQuotedPathsExist: a document names no file that has moved.
func TestQuotedPathsExist(t *testing.T) {
	t.Parallel()
	docs, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil || len(docs) == 0 {
		t.Fatal(err)
	}
	top, err := filepath.Glob(filepath.Join(root, "*.md"))
	if err != nil || len(top) == 0 {
		t.Fatal(err)
	}
	for _, path := range append(docs, top...) {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range docPath.FindAllStringSubmatch(string(data), -1) {
			if _, err := os.Stat(filepath.Join(root, filepath.FromSlash(m[1]))); err != nil {
				t.Errorf("%s: there is no %s", path, m[1])
			}
		}
	}
}
