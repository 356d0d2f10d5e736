package docstest

import (
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stranglerfig/migrator/internal/test/clitest"
)

var (
	docLink     = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	docHeading  = regexp.MustCompile(`(?m)^#+ (.+)$`)
	fencedBlock = regexp.MustCompile("(?s)```.*?```")
)

// anchors are the link targets of a document's headings.
func anchors(text string) []string {
	var found []string
	for _, m := range docHeading.FindAllStringSubmatch(fencedBlock.ReplaceAllString(text, ""), -1) {
		var b strings.Builder
		for _, r := range strings.ToLower(m[1]) {
			switch {
			case r == ' ':
				b.WriteRune('-')
			case r == '-' || r == '_' || r >= 'a' && r <= 'z' || r >= '0' && r <= '9':
				b.WriteRune(r)
			}
		}
		found = append(found, b.String())
	}
	return found
}

// links are the targets that a document links to within the repository.
func links(text string) []string {
	var found []string
	for _, m := range docLink.FindAllStringSubmatch(fencedBlock.ReplaceAllString(text, ""), -1) {
		if !strings.Contains(m[1], "://") {
			found = append(found, m[1])
		}
	}
	return found
}

// markdown is every Markdown file of the repository, by its path from the module's folder.
func markdown(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := fs.WalkDir(os.DirFS(clitest.Root()), ".", func(name string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case e.IsDir() && (e.Name() == "testdata" || name != "." && strings.HasPrefix(e.Name(), ".")):
			return fs.SkipDir
		case !e.IsDir() && path.Ext(name) == ".md":
			data, err := os.ReadFile(filepath.Join(clitest.Root(), filepath.FromSlash(name)))
			found[name] = string(data)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// brokenLinks returns a sentence for each link whose file or heading does not exist.
func brokenLinks(all map[string]string, exists func(name string) bool) []string {
	var broken []string
	for name, text := range all {
		for _, link := range links(text) {
			file, anchor, _ := strings.Cut(link, "#")
			to := name
			if file != "" {
				to = path.Join(path.Dir(name), file)
			}
			there, isDoc := all[to]
			switch {
			case !isDoc && !exists(to):
				broken = append(broken, name+": the link "+link+" has no file")
			case anchor != "" && !slices.Contains(anchors(there), anchor):
				broken = append(broken, name+": the link "+link+" has no heading")
			}
		}
	}
	slices.Sort(broken)
	return broken
}

// TestLinksResolve: links within the repository have an existing file and heading.
func TestLinksResolve(t *testing.T) {
	t.Parallel()
	for _, sentence := range brokenLinks(markdown(t), func(name string) bool {
		_, err := os.Stat(filepath.Join(clitest.Root(), filepath.FromSlash(name)))
		return err == nil
	}) {
		t.Error(sentence)
	}
}

func TestBrokenLinksAreFound(t *testing.T) {
	t.Parallel()
	got := brokenLinks(map[string]string{
		"README.md": "[a](docs/a.md#one-two) [b](docs/a.md#three) [c](docs/c.md) [licence](LICENSE) [d](#top)\n# Top",
		"docs/a.md": "# One, two\n[up](../README.md#top) [x](https://example.com/#y)\n```\n[not](a-link)\n```",
	}, func(name string) bool { return name == "LICENSE" })
	want := []string{"README.md: the link docs/a.md#three has no heading", "README.md: the link docs/c.md has no file"}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestReadmeLinksEveryDocument: a reader reaches each document from README.md.
func TestReadmeLinksEveryDocument(t *testing.T) {
	t.Parallel()
	readme := clitest.Docs(t)["README.md"]
	for _, pattern := range []string{"*.md", "*.txt", "LICENSE", "docs/*.md"} {
		files, err := filepath.Glob(filepath.Join(clitest.Root(), filepath.FromSlash(pattern)))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: no documents: %v", pattern, err)
		}
		for _, file := range files {
			name, err := filepath.Rel(clitest.Root(), file)
			if err != nil {
				t.Fatal(err)
			}
			if name = filepath.ToSlash(name); name != "README.md" && !slices.Contains(links(readme), name) {
				t.Errorf("README.md has no link to %s", name)
			}
		}
	}
}
