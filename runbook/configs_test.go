package runbook_test

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/text"

	"github.com/stranglerfig/migrator/internal/openstore"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/runbook"
)

var update = flag.Bool("update", false, "rewrite the examples")

func products(t testing.TB) *migration.Config {
	t.Helper()
	data, err := os.ReadFile("../configs/products.yaml")
	must(t, err)
	m, err := openstore.Parse("../configs/products.yaml", data, func(name string) (string, bool) {
		v := map[string]string{"LEGACY_URL": "postgres://app@db/shop"}[name]
		return v, v != ""
	})
	must(t, err)
	return m
}

//go:generate go test -count=1 -run TestExamples . -update

// TestExamples: the two rendered runbooks in configs are what products.yaml renders.
func TestExamples(t *testing.T) {
	t.Parallel()
	for _, name := range runbook.Rendered {
		got, err := runbook.Render(name, products(t), runbook.Facts{Deciders: []string{"ann", "bob"}})
		must(t, err)
		path := "../configs/runbooks/" + name + ".md"
		if *update {
			must(t, os.WriteFile(path, got, 0o644))
		}
		want, err := os.ReadFile(path)
		must(t, err)
		if !bytes.Equal(got, want) {
			t.Errorf("%s differs from what is rendered; try: go generate ./runbook\n%s", path, got)
		}
	}
}

// TestEveryConfigRunbookParses: and each runbook has the name of its file.
func TestEveryConfigRunbookParses(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../configs/runbooks/*.md")
	must(t, err)
	if len(files) < 10 {
		t.Errorf("only %v", files)
	}
	for _, path := range files {
		r, err := runbook.Load(path, runbook.Values(products(t)))
		if err != nil {
			t.Error(err)
			continue
		}
		if want := strings.TrimSuffix(filepath.Base(path), ".md"); r.Name != want {
			t.Errorf("%s calls itself %s", path, r.Name)
		}
	}
}

var notInAnchor = regexp.MustCompile(`[^\p{L}\p{N}_ -]`)

// anchors are those that GitHub gives a document's headings.
func anchors(t testing.TB, path string) map[string]bool {
	t.Helper()
	source, err := os.ReadFile(path)
	must(t, err)
	found := map[string]bool{"": true}
	_ = ast.Walk(goldmark.New().Parser().Parse(text.NewReader(source)), func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if h, ok := n.(*ast.Heading); ok && entering {
			title := ""
			for i := range h.Lines().Len() {
				seg := h.Lines().At(i)
				title += string(seg.Value(source))
			}
			title = strings.Map(unicode.ToLower, strings.TrimSpace(title))
			found[strings.ReplaceAll(notInAnchor.ReplaceAllString(title, ""), " ", "-")] = true
		}
		return ast.WalkContinue, nil
	})
	return found
}

var runbookURL = regexp.MustCompile(`runbook_url: (\S+)`)

// TestAlertsLinkToRunbooks: each alert names a runbook of this repository, and a heading in
// it.
func TestAlertsLinkToRunbooks(t *testing.T) {
	t.Parallel()
	rules, err := os.ReadFile("../configs/prometheus/alerts.rules.yml")
	must(t, err)
	const base = "https://github.com/stranglerfig/migrator/blob/main/"
	urls := runbookURL.FindAllStringSubmatch(string(rules), -1)
	if alerts := bytes.Count(rules, []byte("- alert: ")); len(urls) != alerts || alerts == 0 {
		t.Errorf("%d alerts have %d runbook links", alerts, len(urls))
	}
	for _, m := range urls {
		path, ok := strings.CutPrefix(m[1], base)
		path, anchor, _ := strings.Cut(path, "#")
		if !ok {
			t.Errorf("%s is not in this repository", m[1])
			continue
		}
		if !strings.HasPrefix(path, "configs/runbooks/") {
			t.Errorf("%s is no runbook", m[1])
		}
		if !anchors(t, filepath.Join("..", filepath.FromSlash(path)))[anchor] {
			t.Errorf("%s: there is no such heading", m[1])
		}
	}
}
