package daemontest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"image"
	"image/color"
	"image/png"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stranglerfig/migrator/internal/test/clitest"
	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/phases"
)

// browser is a Chromium that a test drives, or another program that answers a command a line.
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
	return drives(t, "node", filepath.Join("testdata", "browser.mjs"), packages, chromium)
}

// drives starts a program that answers a command a line.
func drives(t *testing.T, program string, args ...string) *browser {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, args...)
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
		b.t.Fatalf("%s: the program has ended: %v", what, b.out.Err())
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

// focused fails if the focus is elsewhere than where this text, or ID, is.
func (b *browser) focused(want string) {
	b.t.Helper()
	if at, _ := b.do("focused", nil).(string); at != want {
		b.t.Errorf("the focus is at %q, want %q", at, want)
	}
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

// shots writes screenshots of what is shown from a place on: into docs, where MIGRATOR_SCREENSHOTS says so.
func (b *browser) shots(name, from string) {
	b.t.Helper()
	dir := b.t.TempDir()
	if os.Getenv("MIGRATOR_SCREENSHOTS") != "" {
		dir = filepath.Join(clitest.Root(), "docs", "images")
	}
	for _, scheme := range []string{"light", "dark"} {
		for size, width := range map[string]int{"wide": 1280, "400": 400} {
			b.do("look", values{"width": width, "height": 900, "scheme": scheme})
			b.do("scroll", values{"selector": from})
			path := filepath.Join(dir, "page-"+name+"-"+size+"-"+scheme+".png")
			b.do("shot", values{"path": path})
			b.shrink(path)
		}
	}
	b.do("look", values{"width": 1280, "height": 900, "scheme": "light"})
}

// shrink writes a picture again with the 256 colors that it has most of: a third of the bytes, and it looks the same.
func (b *browser) shrink(path string) {
	b.t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		b.t.Fatal(err)
	}
	shot, err := png.Decode(bytes.NewReader(text))
	if err != nil {
		b.t.Fatal(err)
	}
	bounds, count := shot.Bounds(), map[color.RGBA]int{}
	at := func(x, y int) color.RGBA { return color.RGBAModel.Convert(shot.At(x, y)).(color.RGBA) }
	for y := range bounds.Dy() {
		for x := range bounds.Dx() {
			count[at(x, y)]++
		}
	}
	colors := slices.SortedFunc(maps.Keys(count), func(a, b color.RGBA) int { return count[b] - count[a] })
	var most color.Palette
	for _, c := range colors[:min(len(colors), 256)] {
		most = append(most, c)
	}
	small, index := image.NewPaletted(bounds, most), map[color.RGBA]uint8{}
	for y := range bounds.Dy() {
		for x := range bounds.Dx() {
			c := at(x, y)
			i, known := index[c]
			if !known {
				i = uint8(most.Index(c))
				index[c] = i
			}
			small.SetColorIndex(x, y, i)
		}
	}
	var out bytes.Buffer
	if err := (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&out, small); err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(path, out.Bytes(), 0o644); err != nil {
		b.t.Fatal(err)
	}
}

// clean fails with what the browser has reported since the last time: errors, refusals of the policy, requests elsewhere.
// Without a server, and where a test wants an answer of another kind, it reports that too.
func (b *browser) clean(wanted ...string) {
	b.t.Helper()
	heard, _ := b.do("heard", nil).([]any)
	for _, one := range heard {
		text, _ := one.(string)
		if !slices.ContainsFunc(append(wanted, "ERR_CONNECTION_REFUSED"), func(w string) bool { return strings.Contains(text, w) }) {
			b.t.Errorf("the browser reports: %v", one)
		}
	}
}

// pageGates measure; one of them more than a test brings.
const pageGates = `gates:
  consistency: {limit: 0.01%, interval: 1s}
  shadow_writes: {interval: 1s}
  target_reads: {interval: 1s}
  added_latency: {off: another test's}
  drill: {off: another test's}
  runbook: {off: another test's}
  bypass: {off: another test's}
`

// gates applies the migration file with other gates.
func (w *watched) gates(lines string) {
	w.t.Helper()
	text, err := os.ReadFile(w.Path("migration.yaml"))
	if err != nil {
		w.t.Fatal(err)
	}
	before, _, _ := strings.Cut(string(text), "gates:")
	w.Write("migration.yaml", before+lines+watchedTriggers)
	w.Does("apply")
}

// presses opens a button's dialog, and returns what it asks.
func (b *browser) presses(verb, says string) string {
	b.t.Helper()
	b.click(`.acts a[href$="/do/` + verb + `"]`)
	return b.wait("dialog", says)
}

// TestThePageInABrowser drives the page through a held gate, a refused and an accepted button, a cutover, an automatic
// rollback and its acknowledgment, and a loss of the state database.
func TestThePageInABrowser(t *testing.T) {
	t.Parallel()
	b := newBrowser(t)
	server := testenv.Postgres(t)
	w := newWatchedOn(t, watchedRest+watchedTriggers, 0, func(w *watched) {
		url := server.URL()
		w.State = url
		w.Write("settings.yaml", "file: "+w.Path("migration.yaml")+"\nstate_url: "+url+"\npage: true\n")
	})
	w.gates(pageGates)
	token, _ := w.token("alice", "operator")
	d := w.serve(t)
	d.awaits("the page", func() bool { code, _ := d.get("/page/m/items"); return code == 200 })
	page := d.url + "/page/m/items"

	// A stranger sees the phase, and what holds the next step.
	b.do("goto", values{"url": d.url + "/"})
	b.wait("main", "items")
	b.accessible("the list")
	b.shots("list", "body")
	b.click(`a[href="/page/m/items"]`)
	b.wait("#phase", "cutover 50 %")
	b.wait("#rollback", "lossless now")
	b.wait(".blocks", phases.GateConsistency)
	b.wait("#says-mismatch", "of 0.01 % allowed")
	b.wait("#s-gates", "opens about")
	b.accessible("a held gate")
	b.shots("gate", "body")
	b.wait("#s-charts canvas", "")
	b.shots("charts", "#s-charts")
	if text, _ := b.do("text", values{"selector": "#s-acts"}).(string); !strings.Contains(text, "sign-in") {
		t.Errorf("without a token: %s", text)
	}

	// By keyboard: the first stop skips to the content.
	b.do("goto", values{"url": page})
	b.do("press", values{"text": "Tab"})
	b.focused("Skip to the content")
	b.click(`#s-acts a`)
	b.fill("#token", "mgt_wrong")
	b.do("press", values{"text": "Enter"})
	b.wait("main", "unknown, has expired or was revoked")
	b.clean("403 (Forbidden)")
	b.accessible("a refused sign-in")
	b.fill("#token", token)
	b.do("press", values{"text": "Enter"})
	b.wait("header", "Signed in as alice")

	// A refused button says why, and nothing has changed. All of it by keyboard: the focus is in the dialog, and then where
	// it was.
	advance := `.acts a[href$="/do/advance"]`
	b.wait(advance, "Advance")
	b.do("focus", values{"selector": advance})
	b.do("press", values{"text": "Enter"})
	b.wait("dialog", "It would be refused")
	b.focused("Close")
	b.wait("dialog", phases.GateConsistency)
	b.accessible("a refused button")
	b.shots("refused", "body")
	b.do("press", values{"text": "Escape"})
	b.focused("Advance…")

	// An accepted one asks, does it, and says what the state has.
	b.presses("pause", "Blocks every advance")
	b.fill("#reason", "waiting for the evening")
	b.do("press", values{"text": "Enter"})
	b.wait("dialog", "Done.")
	b.wait("dialog", "paused: waiting for the evening")
	b.click("dialog a.button")
	b.wait(".warning", "waiting for the evening")
	b.wait("#s-history", "pause")
	b.presses("resume", "Ends the pause")
	b.click("dialog form[method=post] button")
	b.wait("dialog", "Done.")
	b.click("dialog a.button")

	// A rollback by the button, live in the same page.
	b.presses("rollback", "Then reads come from legacy")
	b.accessible("a rollback's question")
	b.shots("rollback", "body")
	b.fill("#reason", "to look at it by day")
	b.do("press", values{"text": "Enter"})
	b.wait("#is", "dual-read")
	b.accessible("a rollback's result")
	b.click("dialog a.button")
	b.wait("#phase", "dual-read")
	b.wait("#s-timeline", "rollback by alice: to look at it by day")

	// A cutover by a command shows as it happens.
	w.gates("gates: {off: a test of the page}\n")
	w.Does("reconcile run --full", "phase advance")
	b.wait("#phase", "cutover 50 %")

	// The target fails: a trigger rolls back, and the page shows that first.
	if err := w.redis.Kill(); err != nil {
		t.Fatal(err)
	}
	b.wait(".warning", "Rolled back automatically")
	b.wait("#phase", "dual-read")
	b.accessible("an automatic rollback")
	b.shots("automatic", "body")
	b.shots("timeline", "#s-timeline")
	if err := w.redis.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.presses("acknowledge", "Acknowledges the automatic rollback")
	b.fill("#reason", "the target was stopped by the test")
	b.do("press", values{"text": "Enter"})
	b.wait("dialog", "Done.")
	b.click("dialog a.button")
	b.wait("#s-history", "acknowledge")

	// Without the state database the last picture stays, and buttons are off.
	if err := server.Kill(); err != nil {
		t.Fatal(err)
	}
	b.wait("#asof", "the state database does not answer")
	b.wait("#s-acts", "Buttons are off")
	b.wait("#phase", "dual-read")
	b.accessible("without the state")
	b.shots("down", "body")
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.wait("#s-acts", "Each asks first")
	if text, _ := b.do("text", values{"selector": "#asof"}).(string); strings.TrimSpace(text) != "" {
		t.Errorf("with the state again: %q", text)
	}
	b.do("goto", values{"url": page + "/explain/gate/consistency"})
	b.wait("main", "Earlier evaluations")
	b.accessible("an explanation")
	b.clean()
}
