package loss

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
)

const page = "../../../../docs/model.md"

// TestThePageHasEveryWorld: the part of docs/model.md between its marks is what the worlds'
// tables give.
func TestThePageHasEveryWorld(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, begins := strings.Cut(string(text), "<!-- worlds -->\n")
	got, _, ends := strings.Cut(rest, "<!-- end of worlds -->\n")
	if want := rendered(); !begins || !ends || got != want {
		t.Errorf("docs/model.md differs from the worlds. It must have, between its marks:\n%s", want)
	}
}

func rendered() string {
	var b strings.Builder
	for _, w := range Worlds() {
		fmt.Fprintf(&b, "\n### %s\n\n%s\n\n| | bounds of the search | states |\n|---|---|---|\n", w.Name, wrapped(w.About))
		for i, s := range w.Searches {
			fmt.Fprintf(&b, "| %d%s | %s | %s |\n", i+1, map[bool]string{true: ", long"}[s.Long], s.Bounds, thousands(s.States))
		}
		b.WriteString("\n| rule | without it | steps | search | protocol |\n|---|---|---|---|---|\n")
		for _, r := range w.Rules {
			cites := ""
			if r.Cites != "" {
				cites = "[" + r.Cites + "]"
			}
			fmt.Fprintf(&b, "| %s | %s | %d | %d | %s |\n", r.Name, r.Breaks, r.Steps, r.In+1, cites)
		}
	}
	return b.String() + "\n"
}

// wrapped breaks a paragraph at 90 columns.
func wrapped(text string) string {
	var b strings.Builder
	column := 0
	for _, word := range strings.Fields(text) {
		if column > 0 && column+1+len(word) > 90 {
			b.WriteByte('\n')
			column = 0
		} else if column > 0 {
			b.WriteByte(' ')
			column++
		}
		b.WriteString(word)
		column += len(word)
	}
	return b.String()
}

func thousands(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
