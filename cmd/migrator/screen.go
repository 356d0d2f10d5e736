package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"golang.org/x/term"

	"github.com/stranglerfig/migrator/internal/humanize"
)

// frame is text on its way to a terminal, which gets the terminal's colours.
type frame struct {
	bytes.Buffer
	to io.Writer
}

// size returns the terminal's columns and lines; 0, 0 where w is none.
func size(w io.Writer) (columns, lines int) {
	if f, ok := w.(*frame); ok {
		w = f.to
	}
	if o, ok := w.(*output); ok {
		w = o.Writer
	}
	if f, ok := w.(*os.File); ok {
		if columns, lines, err := term.GetSize(int(f.Fd())); err == nil {
			return columns, lines
		}
	}
	return 0, 0
}

// onScreen prints what print prints so that it fits the terminal, the first lines first. Elsewhere it prints
// all as it is.
func (c *cli) onScreen(print func() error) error {
	columns, lines := size(c.out)
	if columns == 0 || c.settings.Output == outputJSON {
		return print()
	}
	text, err := c.printed(print)
	if err == nil {
		_, err = io.WriteString(c.out, fit(text, columns, lines-1))
	}
	return err
}

// printed returns what print prints, as it would print it to c.out.
func (c *cli) printed(print func() error) (string, error) {
	to := c.out
	f := &frame{to: to}
	c.out = f
	err := print()
	c.out = to
	return f.String(), err
}

// fit wraps the lines of a text at its words and leaves out what is below the last line. A continued line is
// indented to the column of the values.
func fit(text string, columns, lines int) string {
	var all []string
	for line := range strings.Lines(text) {
		all = append(all, wrapped(strings.TrimSuffix(line, "\n"), columns)...)
	}
	if lines > 1 && len(all) > lines {
		more := len(all) - lines + 1
		all = append(all[:lines-1], cutTo(fmt.Sprintf("  ... and %s; all: migrator status | cat", humanize.Counted(more, "more line")), columns))
	}
	return strings.Join(all, "\n") + "\n"
}

// valueColumn is where the values of status begin.
const valueColumn = 13

func wrapped(line string, columns int) (lines []string) {
	indent := strings.Repeat(" ", min(valueColumn, columns/3))
	for width(line) > columns {
		at := breakAt(line, columns)
		if at <= len(indent) {
			return append(lines, line)
		}
		lines = append(lines, strings.TrimRight(line[:at], " "))
		line = indent + strings.TrimLeft(line[at:], " ")
	}
	return append(lines, line)
}

// breakAt is the byte where a line that is too wide is broken: at its last space that fits, else where it is
// full. Escape sequences have no width.
func breakAt(line string, columns int) int {
	space, seen, escape, text := 0, 0, false, false
	for i, r := range line {
		switch {
		case escape:
			escape = r != 'm'
			continue
		case r == '\x1b':
			escape = true
			continue
		case r == ' ' && text && seen > valueColumn:
			space = i
		case r != ' ':
			text = true
		}
		if seen++; seen > columns {
			if space > 0 {
				return space
			}
			return i
		}
	}
	return len(line)
}

func width(line string) (n int) {
	escape := false
	for _, r := range line {
		switch {
		case escape:
			escape = r != 'm'
		case r == '\x1b':
			escape = true
		default:
			n++
		}
	}
	return n
}

// cutTo shortens a text without escape sequences to a width; 0: any.
func cutTo(text string, columns int) string {
	if columns == 0 || utf8.RuneCountInString(text) <= columns {
		return text
	}
	return string([]rune(text)[:max(columns-3, 1)]) + "..."
}
