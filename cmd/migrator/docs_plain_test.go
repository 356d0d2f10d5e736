package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// plainDocs are the documents, by their paths from the module's root, that use the
// project's glossary and no indefinite persons.
var plainDocs = []string{
	"README.md", "CHANGELOG.md", "examples/storefront/README.md", "configs/runbooks/*.md",
	"docs/alerts.md", "docs/drill.md", "docs/metrics.md", "docs/operating.md",
	"docs/performance.md", "docs/reconcile.md", "docs/runbooks.md",
}

// unplain matches words that documents do not use: indefinite persons, and what the glossary
// replaces (by migration file, rollback, repair, report, resume, heartbeat, journaled).
var unplain = regexp.MustCompile(`(?i)\b(whoever|(some|any|every)(body|one)|nobody|anew|told|said|` +
	`(way|held|holds|taken?|takes) back|takes? reads back|goes on|mend(s|ed)?|journalled|` +
	`description|sign of life|without a word)\b`)

// notProse is what a document quotes: generated parts, blocks, code within a sentence.
// A block of runbooks within another one must be the document's last block.
var notProse = []*regexp.Regexp{
	generated, regexp.MustCompile("(?ms)^(```+).*?^```+$"), regexp.MustCompile("`[^`\n]*`"),
}

func TestDocsArePlain(t *testing.T) {
	t.Parallel()
	for _, pattern := range plainDocs {
		paths, err := filepath.Glob(filepath.Join("../..", filepath.FromSlash(pattern)))
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

// TestShortLinesAreShort: the list of commands fits a terminal, in the documents' words.
func TestShortLinesAreShort(t *testing.T) {
	t.Parallel()
	var check func(cmd *cobra.Command)
	check = func(cmd *cobra.Command) {
		if n := len(cmd.Short); n > 60 || strings.HasSuffix(cmd.Short, ".") {
			t.Errorf("%s: %q has %d characters", cmd.CommandPath(), cmd.Short, n)
		}
		for _, text := range []string{cmd.Short, cmd.Long} {
			if word := unplain.FindString(text); word != "" {
				t.Errorf("%s: %q in: %s", cmd.CommandPath(), word, text)
			}
		}
		for _, sub := range cmd.Commands() {
			if sub.Name() != "completion" && sub.Name() != "help" {
				check(sub)
			}
		}
	}
	check(newRoot(&cli{}))
}
