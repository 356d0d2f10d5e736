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
	"README.md", "CHANGELOG.md", "examples/storefront/README.md", "configs/runbooks/*.md", "docs/*.md",
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
