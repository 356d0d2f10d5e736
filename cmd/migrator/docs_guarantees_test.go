package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	codeSpan   = regexp.MustCompile("`([^`\n]+)`")
	testFunc   = regexp.MustCompile(`(?m)^func (Test\w+)\(`)
	makeTarget = regexp.MustCompile(`(?m)^([a-z-]+):`)
	testName   = regexp.MustCompile(`^Test[A-Z]\w*$`)
)

// TestGuaranteesNameWhatExists: a guarantee needs its test. Every test, make target,
// command and metric that the page names exists.
func TestGuaranteesNameWhatExists(t *testing.T) {
	t.Parallel()
	read := func(path string) string {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	known := map[string]bool{}
	err := filepath.WalkDir("../..", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") {
			return err
		}
		if strings.HasSuffix(path, "_test.go") || strings.Contains(path, "storetest") {
			for _, m := range testFunc.FindAllStringSubmatch(read(path), -1) {
				known[m[1]] = true
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range makeTarget.FindAllStringSubmatch(read("../../Makefile"), -1) {
		known["make "+m[1]] = true
	}
	metrics := read("../../docs/metrics.md")
	root := newRoot(&cli{})
	tests := 0
	for _, m := range codeSpan.FindAllStringSubmatch(read("../../docs/guarantees.md"), -1) {
		switch span := m[1]; {
		case testName.MatchString(span), strings.HasPrefix(span, "make "):
			tests++
			if !known[span] {
				t.Errorf("there is no %s", span)
			}
		case strings.HasPrefix(span, "migrator_"):
			name, _, _ := strings.Cut(span, "{")
			if !strings.Contains(metrics, "| `"+name+"` |") {
				t.Errorf("there is no metric %s", name)
			}
		case strings.HasPrefix(span, "migrator "):
			words := strings.Fields(span)[1:]
			cmd, rest, err := root.Find(words)
			if err != nil || cmd == root || len(rest) > 0 && !strings.HasPrefix(rest[0], "-") {
				t.Errorf("there is no command %q", span)
				continue
			}
			for _, word := range rest {
				flag, _, _ := strings.Cut(strings.TrimLeft(word, "-"), "=")
				if strings.HasPrefix(word, "--") && cmd.Flags().Lookup(flag) == nil && cmd.InheritedFlags().Lookup(flag) == nil {
					t.Errorf("%q: there is no flag --%s", span, flag)
				}
			}
		}
	}
	if tests < 20 {
		t.Errorf("only %d tests are named: the page is not parsed correctly", tests)
	}
}
