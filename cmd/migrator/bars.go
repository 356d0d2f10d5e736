package main

import (
	"math"
	"os"
	"strings"
	"unicode/utf8"
)

// bar draws a share of a whole in a number of cells: [######----]. It is full at 1 and not before; a share above 1
// ends in >.
func bar(share float64, cells int) string {
	if cells < 1 {
		return ""
	}
	full := 0
	switch {
	case share > 1:
		return "[" + strings.Repeat("#", cells-1) + ">]"
	case share == 1:
		full = cells
	case share > 0: // NaN is not
		full = min(int(share*float64(cells)), cells-1)
	}
	return "[" + strings.Repeat("#", full) + strings.Repeat("-", cells-full) + "]"
}

// The levels of sparklines, from nothing to the top.
var (
	blockLevels = []rune("▁▂▃▄▅▆▇")
	asciiLevels = []rune("_.-:=+#")
)

// spark draws the newest of the values, which are oldest first, a character each; its scale begins at 0, and ends at
// top or at the largest of them. What is no number is a gap.
func spark(values []float64, top float64, columns int, levels []rune) string {
	values = values[max(0, len(values)-max(columns, 0)):]
	for _, v := range values {
		if isNumber(v) {
			top = max(top, v)
		}
	}
	var out strings.Builder
	for _, v := range values {
		switch {
		case !isNumber(v):
			out.WriteByte(' ')
		case v <= 0 || !isNumber(top) || top <= 0:
			out.WriteRune(levels[0])
		default:
			out.WriteRune(levels[min(int(v/top*float64(len(levels))), len(levels)-1)])
		}
	}
	return out.String()
}

func isNumber(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }

// levels are those that the terminal can show.
func levels() []rune {
	if !utf8Locale(os.Getenv) || os.Getenv("TERM") == "dumb" {
		return asciiLevels
	}
	return blockLevels
}

// utf8Locale reports whether the locale's characters are UTF-8, by POSIX's order of its variables.
func utf8Locale(env func(string) string) bool {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if v := env(name); v != "" {
			v = strings.ToLower(v)
			return strings.Contains(v, "utf-8") || strings.Contains(v, "utf8")
		}
	}
	return false
}

// row is a line of bars: a name, a bar, a text, a sparkline.
type row struct {
	name, text, style string
	share             float64 // NaN: it has no bar
	values            []float64
	top               float64
}

const (
	nameMost  = 21
	textCells = 18 // so that what follows stays where it is while the text changes
	barLeast  = 4
	barMost   = 20
	sparkMost = 24
)

// barCells is how many cells of a row are the bar's, so that half of what is left remains for the sparkline; 0: there
// is no room.
func barCells(columns, name int) int {
	cells := min((columns-valueColumn-name-1-2-1-textCells-1)/2, barMost)
	if cells < barLeast {
		return 0
	}
	return cells
}

// printRows prints rows below a head. Their layout is the same whatever their numbers are.
func (c *cli) printRows(head string, rows []row, columns int) {
	name := 0
	for _, r := range rows {
		name = max(name, min(utf8.RuneCountInString(r.name), nameMost))
	}
	cells := barCells(columns, name)
	for _, r := range rows {
		used := valueColumn + name + 1
		drawn := written("")
		if cells > 0 && !math.IsNaN(r.share) {
			drawn = c.paint(c.out, r.style, bar(r.share, cells)) + " "
			used += cells + 3
		}
		line := spark(r.values, r.top, min(columns-used-max(utf8.RuneCountInString(r.text), textCells)-1, sparkMost), levels())
		if utf8.RuneCountInString(line) < 2 { // it has no course yet, or no room
			line = ""
		}
		text := written(strings.TrimRight(padded(r.text, textCells)+" "+line, " "))
		c.printf("  %-10s %s %s%s\n", head, padded(cutTo(r.name, name), name), drawn, text)
		head = ""
	}
}

func padded(text string, columns int) string {
	return text + strings.Repeat(" ", max(0, columns-utf8.RuneCountInString(text)))
}

const jobCells = 10

// jobBar is the bar before a job's text; "" where it is not shown on a terminal, or on a narrow one.
func (c *cli) jobBar(share float64) string {
	if columns, _ := size(c.out); columns < 2*(valueColumn+jobCells) {
		return ""
	}
	return bar(share, jobCells) + " "
}
