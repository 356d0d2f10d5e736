package docstest

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stranglerfig/migrator/internal/test/clitest"
)

// TestChangelogCategories: every category is one of Keep a Changelog, in its order, and
// no version has one twice.
func TestChangelogCategories(t *testing.T) {
	t.Parallel()
	order := []string{"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
	versions, last := 0, -1
	for line := range strings.Lines(clitest.Docs(t)["CHANGELOG.md"]) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "## ") {
			versions, last = versions+1, -1
		}
		name, isCategory := strings.CutPrefix(line, "### ")
		if !isCategory {
			continue
		}
		at := slices.Index(order, name)
		if at <= last {
			t.Errorf("the category %s: want each of %s once, in this order", name, strings.Join(order, ", "))
		}
		last = at
	}
	if versions < 2 {
		t.Errorf("%d versions: the changelog is not read correctly", versions)
	}
}

var goDirective = regexp.MustCompile(`(?m)^go (\d+\.\d+)`)

// TestDocumentedGoVersion: README.md and docs/compatibility.md require the Go of go.mod.
func TestDocumentedGoVersion(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile(filepath.Join(clitest.Root(), "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	m := goDirective.FindStringSubmatch(string(data))
	if m == nil {
		t.Fatal("go.mod has no line go")
	}
	docs := clitest.Docs(t)
	for name, want := range map[string]string{
		"README.md":             "Go " + m[1] + ",",
		"docs/compatibility.md": "| Go, to build | " + m[1] + " |",
	} {
		if !strings.Contains(docs[name], want) {
			t.Errorf("%s does not say %q", name, want)
		}
	}
}

// TestPublicPackagesAreListed: docs/compatibility.md lists each package that an application can
// import, and no other.
func TestPublicPackagesAreListed(t *testing.T) {
	t.Parallel()
	cmd := exec.Command("go", "list", "./...")
	cmd.Dir = clitest.Root()
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var public []string
	for name := range strings.FieldsSeq(string(out)) {
		name = strings.TrimPrefix(name, module+"/")
		if root, _, _ := strings.Cut(name, "/"); root != "internal" && root != "cmd" && root != "examples" {
			public = append(public, name)
		}
	}
	_, section, _ := strings.Cut(clitest.Docs(t)["docs/compatibility.md"], "\n## Public packages\n")
	var listed []string
	for line := range strings.Lines(section) {
		if columns := strings.Split(line, "|"); len(columns) > 2 {
			for _, m := range codeSpan.FindAllStringSubmatch(columns[1], -1) {
				listed = append(listed, m[1])
			}
		}
	}
	slices.Sort(listed)
	if !slices.Equal(listed, public) {
		t.Errorf("docs/compatibility.md lists %q, want %q", listed, public)
	}
}

var codeSpan = regexp.MustCompile("`([^`\n]+)`")

// TestCommitSubjects runs scripts/commits.sh on a repository with good and bad subjects.
func TestCommitSubjects(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	git := func(args ...string) {
		t.Helper()
		cmd := exec.Command("git", append([]string{"-c", "user.name=test", "-c", "user.email=test@example.com", "-c", "commit.gpgsign=false"}, args...)...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", cmd, err, out)
		}
	}
	check := func() (string, error) {
		cmd := exec.Command("sh", filepath.Join(clitest.Root(), "scripts", "commits.sh"), "base")
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	commit := func(subject string) { git("commit", "-q", "--allow-empty", "-m", subject) }
	git("init", "-q")
	commit("whatever came before the base")
	git("tag", "base")
	if out, err := check(); err != nil {
		t.Errorf("no commit: %v\n%s", err, out)
	}
	long := "store/redis, dual: " + strings.Repeat("→", 72-19)
	commit("reconciles: let river retry jobs")
	commit(long)
	if out, err := check(); err != nil || out != "" {
		t.Errorf("good subjects: %v\n%s", err, out)
	}
	commit(long + "s")
	commit("Let river retry jobs")
	commit("docs:no blank")
	out, err := check()
	if err == nil || strings.Count(out, "\n") != 3 || !strings.Contains(out, "has 73 characters, at most 72: store/redis") ||
		!strings.Contains(out, "package and a colon: Let river retry jobs") || !strings.Contains(out, "package and a colon: docs:no blank") {
		t.Errorf("bad subjects: %v\n%s", err, out)
	}
}
