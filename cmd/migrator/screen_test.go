package main

import (
	"strings"
	"testing"
)

// TestScreensFit: no line is wider than the terminal and no screen taller, the first line stays, and nothing
// of what is shown is lost at a break.
func TestScreensFit(t *testing.T) {
	t.Parallel()
	text := "loans: cutover 50 % (epoch 4, for 3m)\n" +
		"  next       cutover 100 %, by the daemon, due in 29m53s; waits for soak-time, consistency, shadow-writes, target-reads\n" +
		"    \x1b[31mfail        \x1b[0m consistency           " + strings.Repeat("word ", 40) + "\n" +
		"  last       " + strings.Repeat("x", 300) + "\n" + strings.Repeat("  journal    0 keys\n", 30)
	for _, screen := range [][2]int{{80, 24}, {60, 20}, {40, 10}, {1000, 1000}, {13, 5}} {
		columns, lines := screen[0], screen[1]
		got := strings.Split(strings.TrimSuffix(fit(text, columns, lines-1), "\n"), "\n")
		if len(got) > lines-1 {
			t.Errorf("%v: %d lines", screen, len(got))
		}
		for _, line := range got {
			if width(line) > columns {
				t.Errorf("%v: a line of %d: %q", screen, width(line), line)
			}
		}
		if columns >= 40 && got[0] != "loans: cutover 50 % (epoch 4, for 3m)" {
			t.Errorf("%v: the first line is %q", screen, got[0])
		}
		if lines < 40 && !strings.Contains(got[len(got)-1], "...") && columns > 13 {
			t.Errorf("%v: the last line does not say that there is more: %q", screen, got[len(got)-1])
		}
	}
	words := func(s string) string { return strings.Join(strings.Fields(s), "") }
	if got := fit(text, 80, 1000); words(got) != words(text) {
		t.Errorf("text is lost:\n%s", got)
	}
}
