package main

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stranglerfig/migrator/internal/test/clitest"
	"github.com/stranglerfig/migrator/internal/test/testenv"
)

// glass is a terminal that knows the sequences that a painter writes.
type glass struct {
	columns int
	lines   [][]rune
	at, x   int
	style   string
	erased  bool
}

var sequence = regexp.MustCompile(`^\x1b\[([0-9;]*)([HJKm])`)

func (g *glass) write(t *testing.T, text string) {
	t.Helper()
	for text != "" {
		m := sequence.FindStringSubmatch(text)
		if m == nil {
			r := []rune(text)[0]
			if r < ' ' || g.at >= len(g.lines) || g.x >= g.columns {
				t.Fatalf("%q at %d, %d of %d, %d", r, g.at, g.x, len(g.lines), g.columns)
			}
			g.lines[g.at][g.x] = r
			g.x++
			text = text[len(string(r)):]
			continue
		}
		text = text[len(m[0]):]
		switch m[2] {
		case "H":
			if g.style != "" && g.style != "0" {
				t.Fatalf("the cursor moves in the style %q", g.style)
			}
			g.at, g.x = 0, 0
			if line, _, ok := strings.Cut(m[1], ";"); ok {
				g.at, _ = strconv.Atoi(line)
				g.at--
			}
		case "K":
			for i := g.x; i < g.columns; i++ {
				g.lines[g.at][i] = ' '
			}
		case "J":
			if m[1] == "2" {
				g.erased, g.at, g.x = true, 0, 0
			}
			for i := g.at; i < len(g.lines); i++ {
				g.lines[i] = []rune(strings.Repeat(" ", g.columns))
			}
		case "m":
			g.style = m[1]
		}
	}
}

func (g *glass) size(columns, lines int) {
	g.columns, g.lines = columns, nil
	for range lines { // a terminal that is resized may show anything
		g.lines = append(g.lines, []rune(strings.Repeat("?", columns)))
	}
}

func (g *glass) text() (text string) {
	for _, line := range g.lines {
		text += strings.TrimRight(string(line), " ") + "\n"
	}
	return strings.TrimRight(text, "\n") + "\n"
}

var colours = regexp.MustCompile(`\x1b\[[0-9]*m`)

// TestThePainterDrawsWhatFits: whatever was drawn before, and in which size, the terminal shows the text as it fits;
// it is cleared once, at first.
func TestThePainterDrawsWhatFits(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	var p painter
	var g glass
	columns, lines := 80, 24
	g.size(columns, lines)
	for i := range 500 {
		if random.IntN(5) == 0 {
			columns, lines = 20+random.IntN(80), 3+random.IntN(30)
			g.size(columns, lines)
		}
		text := "loans: cutover 50 %\n"
		for n := range random.IntN(30) {
			text += fmt.Sprintf("  line %d    \x1b[31m%s\x1b[0m %d\n", n, strings.Repeat("word ", random.IntN(30)), random.IntN(2))
		}
		g.erased = false
		g.write(t, p.draw(text, columns, lines))
		want := strings.Split(colours.ReplaceAllString(fit(text, columns, lines-1), ""), "\n")
		for i := range want {
			want[i] = strings.TrimRight(want[i], " ")
		}
		if got := g.text(); got != strings.TrimRight(strings.Join(want, "\n"), "\n")+"\n" {
			t.Fatalf("%d: %dx%d shows\n%s\nwant\n%s", i, columns, lines, got, strings.Join(want, "\n"))
		}
		if g.erased != (i == 0) {
			t.Fatalf("%d: the terminal is cleared: %v", i, g.erased)
		}
	}
}

// TestThePainterDrawsOnlyWhatHasChanged, so that nothing flickers.
func TestThePainterDrawsOnlyWhatHasChanged(t *testing.T) {
	t.Parallel()
	var p painter
	p.draw("head\na 1\nb\n", 80, 24)
	if got := p.draw("head\na 1\nb\n", 80, 24); got != "" {
		t.Errorf("the same text: %q", got)
	}
	if got, want := p.draw("head\na 2\nb\n", 80, 24), "\x1b[2;1Ha 2\x1b[K\x1b[4;1H"; got != want {
		t.Errorf("one line: %q, want %q", got, want)
	}
	if got, want := p.draw("head\na 2\n", 80, 24), "\x1b[3;1H\x1b[J"; got != want {
		t.Errorf("a line less: %q, want %q", got, want)
	}
	if got, want := p.draw("head\na 2\n", 60, 24), "\x1b[1;1Hhead\x1b[K\x1b[2;1Ha 2\x1b[K\x1b[3;1H\x1b[J"; got != want {
		t.Errorf("another size: %q, want %q", got, want)
	}
	if got := p.draw(strings.Repeat("x", 60)+"\na 2\n", 60, 24); strings.Contains(got, "\x1b[K") {
		t.Errorf("a full line is erased at its end: %q", got)
	}
}

func TestSpansAreNoChange(t *testing.T) {
	t.Parallel()
	for _, same := range [][2]string{
		{"loans: cutover 50 % (epoch 4, for 9.9s)", "loans: cutover 50 % (epoch 4, for 10s)"},
		{"soak-time 59s on cutover 50 %, 30m needed (in 29m1s)", "soak-time 1m0s on cutover 50 %, 30m needed (in 29m0s)"},
		{"finished 1h59m ago", "finished 2h0m ago"},
		{"finished 47h59m ago", "finished 2d ago"},
		{"for 300ms", "for 1.2s"},
	} {
		if a, b := withoutSpans(same[0]), withoutSpans(same[1]); a != b {
			t.Errorf("%q is not %q", a, b)
		}
	}
	for _, other := range [][2]string{
		{"cutover 50 % (epoch 4", "cutover 50 % (epoch 5"},
		{"0 keys", "1 keys"},
		{"0.35 % of 2 %", "0.36 % of 2 %"},
		{"12 of 50 comparisons differ", "12 of 51 comparisons differ"},
		{"instance a1d", "instance b1d"},
	} {
		if withoutSpans(other[0]) == withoutSpans(other[1]) {
			t.Errorf("%q is taken as %q", other[0], other[1])
		}
	}
}

// TestAPipeGetsTheStatusWhenItChanges, in plain lines.
func TestAPipeGetsTheStatusWhenItChanges(t *testing.T) {
	t.Parallel()
	o := clitest.New(t, "loans", "  table: loans\n", "  key: loan:{id}\n", "environment: staging\ngates: {off: a test}\n")
	o.SQL(o.Legacy, `CREATE TABLE loans (id bigint PRIMARY KEY, note text); INSERT INTO loans VALUES (1, 'a')`)
	o.Does("init", "apply")
	watch := o.Start(t, "status", "--watch")
	printed := func(times int, last string) {
		t.Helper()
		testenv.Await(t, last, func() bool { return strings.Contains(watch.Out.String(), last) })
		if got := strings.Count(watch.Out.String(), "\nloans: ") + 1; got != times {
			t.Errorf("it was printed %d times, want %d:\n%s", got, times, watch.Out.String())
		}
	}
	printed(1, "  journal    0 keys behind in the target\n")
	o.Does("phase pause --reason audit")
	printed(2, "  paused     audit\n")
	o.Does("phase resume", "phase pause --reason lunch")
	testenv.Await(t, "lunch", func() bool { return strings.Contains(watch.Out.String(), "  paused     lunch\n") })
	if out := watch.Out.String(); strings.ContainsAny(out, "[\x1b▁▇") {
		t.Errorf("not plain:\n%q", out)
	}
}
