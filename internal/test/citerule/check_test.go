// Package citerule compares the rules of docs/protocol.md with the code that cites them.
// A rule without a citation in product code may not be implemented, and a citation of a
// rule that is not on the page is of no use to a reader.
package citerule

import (
	"cmp"
	"fmt"
	"go/scanner"
	"go/token"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
)

// page has the rules; the others may cite them.
const page = "docs/protocol.md"

var docs = []string{page, "docs/model.md", "docs/guarantees.md"}

var (
	ruleRow = regexp.MustCompile(`^\| \*\*\[([a-z-]+)\]\*\* \| (.*) \|$`)
	// A citation is one or more lower-case words, joined by hyphens, alone in brackets. The
	// character after it excludes an index, a link of Markdown and a class of characters.
	citationForm = regexp.MustCompile(`(?:^|[\s(*])\[([a-z]{2,}(?:-[a-z]{2,})*)\](?:[\s,.;:)*]|$)`)
	codeInText   = regexp.MustCompile("`[^`]*`")
)

// place is a file and a line.
type place struct {
	file string
	line int
}

func (p place) String() string { return fmt.Sprintf("%s:%d", p.file, p.line) }

// citation is one mention of a rule.
type citation struct {
	place
	rule string
}

// check returns one sentence for each rule that no product file cites, each citation
// that names no rule, and each malformed row of the page.
func check(module fs.FS) ([]string, error) {
	rules, wrong, err := readRules(module)
	if err != nil {
		return nil, err
	}
	cited, err := citations(module)
	if err != nil {
		return nil, err
	}
	kept := map[string]bool{}
	for _, c := range cited {
		if _, known := rules[c.rule]; !known {
			wrong = append(wrong, fmt.Sprintf("%s: [%s] is no rule of %s", c.place, c.rule, page))
		}
		kept[c.rule] = kept[c.rule] || product(c.file)
	}
	for _, name := range sorted(rules) {
		if !kept[name] {
			wrong = append(wrong, fmt.Sprintf("%s: no line of the product cites [%s]", rules[name], name))
		}
	}
	return wrong, nil
}

// readRules returns the rules with their places; wrong are malformed rows.
func readRules(module fs.FS) (rules map[string]place, wrong []string, err error) {
	text, err := fs.ReadFile(module, page)
	if err != nil {
		return nil, nil, err
	}
	rules = map[string]place{}
	for n, line := range strings.Split(string(text), "\n") {
		if !strings.HasPrefix(line, "| **[") {
			continue
		}
		at := place{page, n + 1}
		m := ruleRow.FindStringSubmatch(line)
		switch {
		case m == nil || !filled(m[2]):
			wrong = append(wrong, fmt.Sprintf("%s: want | **[name]** | what it requires | what breaks without it |", at))
		case rules[m[1]] != place{}:
			wrong = append(wrong, fmt.Sprintf("%s: [%s] is at %s too", at, m[1], rules[m[1]]))
		default:
			rules[m[1]] = at
		}
	}
	if len(rules) == 0 {
		wrong = append(wrong, page+":1: there is no rule")
	}
	return rules, wrong, nil
}

// filled reports whether both columns after the rule's name have text.
func filled(columns string) bool {
	parts := strings.Split(columns, " | ")
	return len(parts) == 2 && strings.TrimSpace(parts[0]) != "" && strings.TrimSpace(parts[1]) != ""
}

// citations are those of all comments of Go, Lua and SQL, and of the documents.
func citations(module fs.FS) (cited []citation, err error) {
	err = fs.WalkDir(module, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if strings.HasPrefix(entry.Name(), ".") && name != "." || entry.Name() == "testdata" || name == "internal/test/citerule" {
				return fs.SkipDir
			}
			return nil
		}
		comments := commentsOf(name)
		if comments == nil {
			return nil
		}
		text, err := fs.ReadFile(module, name)
		if err != nil {
			return err
		}
		for _, c := range comments(text) {
			for _, m := range citationForm.FindAllStringSubmatch(overlapping(c.text), -1) {
				cited = append(cited, citation{place{name, c.line}, m[1]})
			}
		}
		return nil
	})
	return cited, err
}

// overlapping doubles the character between two citations, which both patterns need.
func overlapping(line string) string {
	return strings.NewReplacer("] [", "]  [", "],[", "], [").Replace(codeInText.ReplaceAllString(line, ""))
}

// comment is one line of a file's comments, or of a document.
type comment struct {
	line int
	text string
}

func commentsOf(name string) func([]byte) []comment {
	switch path.Ext(name) {
	case ".go":
		return goComments
	case ".lua", ".sql":
		return dashComments
	}
	for _, doc := range docs {
		if name == doc {
			return proseLines
		}
	}
	return nil
}

// goComments are a Go file's comments, line by line, also of a file that does not parse:
// they come from the scanner.
func goComments(text []byte) (list []comment) {
	files := token.NewFileSet()
	file := files.AddFile("", -1, len(text))
	var s scanner.Scanner
	s.Init(file, text, func(token.Position, string) {}, scanner.ScanComments)
	for {
		pos, kind, literal := s.Scan()
		if kind == token.EOF {
			return list
		}
		if kind != token.COMMENT {
			continue
		}
		line := file.Position(pos).Line
		for n, part := range strings.Split(literal, "\n") {
			list = append(list, comment{line + n, strings.TrimPrefix(strings.TrimPrefix(part, "//"), "/*")})
		}
	}
}

func dashComments(text []byte) (list []comment) {
	for n, line := range strings.Split(string(text), "\n") {
		if _, after, found := strings.Cut(line, "--"); found {
			list = append(list, comment{n + 1, after})
		}
	}
	return list
}

// proseLines leaves out blocks of code, and the cell in which a rule is defined.
func proseLines(text []byte) (list []comment) {
	block := false
	for n, line := range strings.Split(string(text), "\n") {
		if strings.HasPrefix(line, "```") {
			block = !block
		}
		if block || strings.HasPrefix(line, "    ") {
			continue
		}
		if ruleRow.MatchString(line) {
			_, line, _ = strings.Cut(line, "]** |")
		}
		list = append(list, comment{n + 1, line})
	}
	return list
}

// product reports whether a file is product code: no test, no model, no example.
func product(name string) bool {
	switch path.Ext(name) {
	case ".go", ".lua", ".sql":
	default:
		return false
	}
	for _, other := range []string{"internal/test/", "examples/", "store/storetest/", "tools/"} {
		if strings.HasPrefix(name, other) {
			return false
		}
	}
	return !strings.HasSuffix(name, "_test.go")
}

func sorted(rules map[string]place) []string {
	names := make([]string, 0, len(rules))
	for name := range rules {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int { return cmp.Compare(rules[a].line, rules[b].line) })
	return names
}
