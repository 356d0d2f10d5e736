package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/stranglerfig/migrator/internal/oneline"
)

// json prints v as the -o json contract has it: one document, indented.
func (c *cli) json(v any) error {
	return writeJSON(c.out, v, "  ")
}

// writeJSON writes v as JSON that a terminal does not interpret either: what does not print is
// escaped. Outside of strings JSON has no such characters.
func writeJSON(w io.Writer, v any, indent string) error {
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetIndent("", indent)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return err
	}
	_, err := io.WriteString(w, string(printedJSON(text.String())))
	return err
}

func printedJSON(text string) written {
	var out strings.Builder
	for _, r := range text {
		switch {
		case r == '\n' || strconv.IsPrint(r):
			out.WriteRune(r)
		case r < 0x10000:
			fmt.Fprintf(&out, `\u%04x`, r)
		default:
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(&out, `\u%04x\u%04x`, high, low)
		}
	}
	return written(out.String())
}

// show prints v as JSON, or calls text. The document of a dry run says so.
func (c *cli) show(v any, text func()) error {
	if c.settings.Output == outputJSON {
		if c.dryRun {
			return c.json(dryDocument{v})
		}
		return c.json(v)
	}
	text()
	return nil
}

// dryDocument is a document with the member dry_run, which some have themselves.
type dryDocument struct{ of any }

// MarshalJSON implements json.Marshaler.
func (d dryDocument) MarshalJSON() ([]byte, error) {
	text, err := json.Marshal(d.of)
	if err != nil {
		return nil, err
	}
	var members map[string]json.RawMessage
	if json.Unmarshal(text, &members) != nil || len(members) == 0 || members["dry_run"] != nil {
		return text, nil
	}
	return append(text[:len(text)-1], `,"dry_run":true}`...), nil
}

// printf prints text. Arguments are shown as one line each, escaped, but for those of type
// written: names, reasons and errors may be words of others.
func (c *cli) printf(format string, args ...any) { fmt.Fprintf(c.out, format, foreign(args)...) }

// note prints progress to stderr, so that stdout contains the result alone. Its arguments are
// shown as printf's.
func (c *cli) note(format string, args ...any) {
	fmt.Fprintf(c.err, format+"\n", foreign(args)...)
}

// written is text that may have colours and line breaks: whatever of it is of others is escaped.
type written string

// longestArgument is the length in bytes to which an argument is shown.
const longestArgument = 16 << 10

// argument formats a value by the verb that is given for it, and escapes the result.
type argument struct{ value any }

// Format implements fmt.Formatter.
func (a argument) Format(s fmt.State, verb rune) {
	text := fmt.Sprintf(fmt.FormatString(s, verb), a.value)
	if len(text) > longestArgument {
		text = text[:longestArgument] + " ..."
	}
	_, _ = io.WriteString(s, oneline.Escape(text))
}

func foreign(args []any) []any {
	shown := make([]any, len(args))
	for i, a := range args {
		switch a.(type) {
		case written, int: // an int may be a width
			shown[i] = a
		default:
			shown[i] = argument{a}
		}
	}
	return shown
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

// paint escapes a text, and colours it where w may get colours; no style, no colour.
func (c *cli) paint(w io.Writer, style, s string) written {
	s = oneline.Escape(s)
	if style == "" || !c.colour(w) {
		return written(s)
	}
	return written("\x1b[" + style + "m" + s + "\x1b[0m")
}

// table prints rows in aligned columns; the first row is the head. Cells are escaped.
func (c *cli) table(rows [][]string) {
	widths := map[int]int{}
	for _, row := range rows {
		for i, cell := range row {
			cell = oneline.Escape(cell)
			row[i] = cell
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
		text := written(strings.TrimRight(line.String(), " "))
		if n == 0 {
			text = c.paint(c.out, bold, string(text))
		}
		fmt.Fprintln(c.out, text)
	}
}
