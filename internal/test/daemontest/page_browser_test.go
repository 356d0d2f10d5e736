package daemontest

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stranglerfig/migrator/internal/test/clitest"
	"github.com/stranglerfig/migrator/internal/test/testenv"
)

// browser is a Chromium that a test drives.
type browser struct {
	t   *testing.T
	in  *json.Encoder
	out *bufio.Scanner
}

// newBrowser skips unless make browser has named the directory of the packages.
func newBrowser(t *testing.T) *browser {
	t.Helper()
	packages := os.Getenv("MIGRATOR_BROWSER")
	if packages == "" {
		t.Skip("for make browser: it needs Chromium and Node.js")
	}
	chromium, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "node", filepath.Join("testdata", "browser.mjs"), packages, chromium) //nolint:gosec // the test's own
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := testenv.Start(cmd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = in.Close(); _ = cmd.Wait() })
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 4<<20)
	return &browser{t: t, in: json.NewEncoder(in), out: lines}
}

type values map[string]any

// do runs a command, and returns its answer.
func (b *browser) do(what string, v values) any {
	b.t.Helper()
	if v == nil {
		v = values{}
	}
	v["do"] = what
	if err := b.in.Encode(v); err != nil {
		b.t.Fatal(err)
	}
	if !b.out.Scan() {
		b.t.Fatalf("%s: the browser has ended: %v", what, b.out.Err())
	}
	var answer struct {
		Value any    `json:"value"`
		Error string `json:"error"`
	}
	if err := json.Unmarshal(b.out.Bytes(), &answer); err != nil {
		b.t.Fatal(err)
	}
	if answer.Error != "" {
		b.t.Fatalf("%s %v: %s", what, v, answer.Error)
	}
	return answer.Value
}

// wait returns the text of the place once it contains the given one.
func (b *browser) wait(selector, text string) string {
	b.t.Helper()
	found, _ := b.do("wait", values{"selector": selector, "text": text}).(string)
	return found
}

func (b *browser) click(selector string) { b.t.Helper(); b.do("click", values{"selector": selector}) }

func (b *browser) fill(selector, text string) {
	b.t.Helper()
	b.do("fill", values{"selector": selector, "text": text})
}

// accessible fails with what axe-core finds, in both color schemes, wide and at 400 px.
func (b *browser) accessible(what string) {
	b.t.Helper()
	for _, scheme := range []string{"light", "dark"} {
		for _, width := range []int{1280, 400} {
			b.do("look", values{"width": width, "height": 900, "scheme": scheme})
			found, _ := b.do("axe", nil).([]any)
			for _, one := range found {
				b.t.Errorf("%s, %s, %d px: %v", what, scheme, width, one)
			}
			if over, _ := b.do("value", values{"text": "document.documentElement.scrollWidth - document.documentElement.clientWidth"}).(float64); over > 0 {
				b.t.Errorf("%s, %d px: the page is %v px wider than its window", what, width, over)
			}
		}
	}
	b.do("look", values{"width": 1280, "height": 900, "scheme": "light"})
}

// shots writes screenshots of what is shown: into docs, where MIGRATOR_SCREENSHOTS says so.
func (b *browser) shots(name string) {
	b.t.Helper()
	dir := b.t.TempDir()
	if os.Getenv("MIGRATOR_SCREENSHOTS") != "" {
		dir = filepath.Join(clitest.Root(), "docs", "images")
	}
	for _, scheme := range []string{"light", "dark"} {
		for size, width := range map[string]int{"wide": 1280, "400": 400} {
			b.do("look", values{"width": width, "height": 900, "scheme": scheme})
			b.do("shot", values{"path": filepath.Join(dir, "page-"+name+"-"+size+"-"+scheme+".png")})
		}
	}
	b.do("look", values{"width": 1280, "height": 900, "scheme": "light"})
}

// clean fails with what the browser has reported: errors, refusals of the policy, requests elsewhere.
func (b *browser) clean() {
	b.t.Helper()
	heard, _ := b.do("heard", nil).([]any)
	for _, one := range heard {
		if text, _ := one.(string); !strings.Contains(text, "ERR_CONNECTION_REFUSED") {
			b.t.Errorf("the browser reports: %v", one)
		}
	}
}

// TestThePageInABrowser drives the page through a cutover, a held gate, an automatic rollback and a loss of the state.
func TestThePageInABrowser(t *testing.T) {
	t.Parallel()
	b := newBrowser(t)
	o, _ := served(t)
	o.Write("settings.yaml", "file: "+o.Path("migration.yaml")+"\nstate_url: "+o.State+"\npage: true\n")
	o.Does("phase advance")
	d := o.serve(t)
	d.awaits("the page", func() bool { code, _ := d.get("/page/m/items"); return code == 200 })
	b.do("goto", values{"url": d.url + "/page/m/items"})
	b.wait("#phase", "shadow-write")
	b.wait(".blocks", "backfill-done")
	b.accessible("a held gate")
	b.shots("gate")
	b.clean()
}
