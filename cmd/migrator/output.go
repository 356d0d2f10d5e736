package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"
)

// json prints v as the -o json contract has it: one document, indented.
func (c *cli) json(v any) error {
	e := json.NewEncoder(c.out)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// show prints v as JSON, or calls text.
func (c *cli) show(v any, text func()) error {
	if c.settings.Output == outputJSON {
		return c.json(v)
	}
	text()
	return nil
}

func (c *cli) printf(format string, args ...any) { fmt.Fprintf(c.out, format, args...) }

// note prints progress to stderr, so that stdout contains the result alone.
func (c *cli) note(format string, args ...any) {
	fmt.Fprintf(c.err, format+"\n", args...)
}

// Styles.
const (
	bold   = "1"
	dim    = "2"
	red    = "31"
	green  = "32"
	yellow = "33"
)

// colour reports whether w may get colours: a terminal, and no NO_COLOR.
func (c *cli) colour(w io.Writer) bool {
	return os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" && isTerminal(w)
}

func (c *cli) paint(w io.Writer, style, s string) string {
	if !c.colour(w) {
		return s
	}
	return "\x1b[" + style + "m" + s + "\x1b[0m"
}

// table prints rows in aligned columns; the first row is the head.
func (c *cli) table(rows [][]string) {
	widths := map[int]int{}
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	for n, row := range rows {
		var line strings.Builder
		for i, cell := range row {
			line.WriteString(cell)
			if i < len(row)-1 {
				line.WriteString(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)+2))
			}
		}
		text := strings.TrimRight(line.String(), " ")
		if n == 0 {
			text = c.paint(c.out, bold, text)
		}
		fmt.Fprintln(c.out, text)
	}
}
