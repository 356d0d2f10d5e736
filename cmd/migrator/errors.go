package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/stranglerfig/migrator/internal/app"
	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/infile"
	"github.com/stranglerfig/migrator/internal/oneline"
	"github.com/stranglerfig/migrator/migration"
)

// Exit codes.
const (
	exitDone   = 0
	exitError  = 1
	exitUsage  = 2
	exitNotYet = 8
)

// codedError is an error with an exit code of its own.
type codedError struct {
	error
	code int
}

func (e codedError) Unwrap() error { return e.error }

// usagef is an error in what the user gave: exit code 2.
func usagef(format string, args ...any) error {
	return codedError{fmt.Errorf(format, args...), exitUsage}
}

// usageTry is usagef with a hint.
func usageTry(h hint.Hint, format string, args ...any) error {
	return codedError{hint.Errorf(h, format, args...), exitUsage}
}

// usage gives err the exit code 2 and a hint.
func usage(err error, text string) error {
	return codedError{hint.With(err, hint.Hint{Text: text}), exitUsage}
}

// try is a hint for a person alone, such as a flag's value or a command line that no
// action stands for.
func try(format string, args ...any) hint.Hint {
	return hint.Hint{Text: fmt.Sprintf(format, args...)}
}

func notYet(err error) error { return codedError{err, exitNotYet} }

// exitCode maps an error to the exit code that docs/cli.md promises.
func exitCode(err error) int {
	var c codedError
	switch {
	case errors.As(err, &c):
		return c.code
	case app.IsNotYet(err):
		return exitNotYet
	case app.IsInput(err):
		return exitUsage
	}
	return exitError
}

// problem is the JSON form of an error. Hint is for a person, with the command line; Do
// and Of are what a program compares.
type problem struct {
	Error string      `json:"error"`
	Risk  string      `json:"risk,omitempty"` // to data, of another system's failure
	Hint  string      `json:"hint,omitempty"`
	Do    hint.Action `json:"do,omitempty"`
	Of    []string    `json:"of,omitempty"`
	Code  int         `json:"code"`
}

// errorLines is an error's text with one line for each error that was joined. A line break
// within one of them is another's, and escaped.
func errorLines(err error) []string {
	text := err.Error()
	var lines []string
	switch e := err.(type) { //nolint:errorlint // one step at a time
	case interface{ Unwrap() []error }:
		for _, one := range e.Unwrap() {
			lines = append(lines, errorLines(one)...)
		}
	case interface{ Unwrap() error }:
		inner := e.Unwrap()
		if inner == nil || !strings.HasSuffix(text, inner.Error()) {
			break
		}
		lines = errorLines(inner)
		lines[0] = oneline.Escape(strings.TrimSuffix(text, inner.Error())) + lines[0]
		return lines
	}
	if strings.Count(text, "\n") != len(lines)-1 { // not joined line by line
		return []string{oneline.Escape(text)}
	}
	return lines
}

// An error prints as much as a person reads: a file with a thousand mistakes, or a value of a
// megabyte, is bad input too.
const (
	maxErrorLines = 20
	maxErrorLine  = 600 // characters
)

// bounded joins an error's lines, without passwords of URLs: one may stand where no URL is
// expected, and is quoted there.
func bounded(lines []string) string {
	if more := len(lines) - maxErrorLines; more > 0 {
		lines = append(lines[:maxErrorLines:maxErrorLines], fmt.Sprintf("... and %d more", more))
	}
	for i, line := range lines {
		lines[i] = oneline.Within(oneline.MaskURLs(line), maxErrorLine)
	}
	return strings.Join(lines, "\n")
}

// fallback is what to try where the error itself does not say it.
func (c *cli) fallback(err error, code int) hint.Hint {
	var bad *migration.Error
	var file *infile.Error
	switch {
	case errors.As(err, &bad) && strings.HasSuffix(bad.File, ".md"):
		return try("migrator runbook schema, which has the keys of a runbook, and docs/runbooks.md")
	case errors.As(err, &bad):
		return try("migrator config schema, which has every key with its values, and docs/configuration.md")
	case errors.As(err, &file):
		return try("the path of a regular file that this user may read and others may not write")
	case code == exitUsage && c.command != "":
		return try("%s --help", c.command)
	case code == exitUsage:
		return try("migrator --help")
	}
	return hint.Hint{}
}

// fail prints the error to stderr, as text or as the -o json contract has it.
func (c *cli) fail(err error) int {
	code := exitCode(err)
	what := bounded(errorLines(err))
	h, _ := hint.Of(err)
	if h.IsZero() {
		h = c.fallback(err, code)
	}
	remedy := oneline.Within(c.given.text(h), maxErrorLine)
	if errors.Is(err, context.Canceled) {
		what = "stopped by a signal: " + what
	}
	f, _ := hint.FailureOf(err)
	if c.settings.Output == outputJSON {
		_ = writeJSON(c.err, problem{Error: what, Risk: f.Risk, Hint: remedy, Do: h.Do, Of: h.Of, Code: code}, "")
		return code
	}
	c.note("%s %s", c.paint(c.err, red, "Error:"), written(what))
	if f.Risk != "" {
		c.note("%s %s", c.paint(c.err, bold, "Risk to data:"), f.Risk)
	}
	if remedy != "" {
		c.note("%s %s", c.paint(c.err, bold, "Try:"), remedy)
	}
	return code
}
