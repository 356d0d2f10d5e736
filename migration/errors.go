package migration

import (
	"fmt"
	"slices"
	"strings"

	"github.com/stranglerfig/migrator/internal/oneline"
)

// Error is one error in a migration file.
type Error struct {
	File    string // as given
	Line    int    // from 1; 0 where there is none
	Path    string // of the setting: phases.cutover.steps[2]
	Message string // complete, without the position; it contains no value of an environment variable
}

// Error reads "migration.yaml:12: legacy.table is missing".
func (e *Error) Error() string {
	if e.Line == 0 {
		return e.File + ": " + e.Message
	}
	return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Message)
}

// Errors are all errors in a migration file, in the order of its lines; at least one.
type Errors []*Error

// Error writes one per line.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, one := range e {
		lines[i] = one.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap lets errors.As find the first *Error.
func (e Errors) Unwrap() []error {
	all := make([]error, len(e))
	for i, one := range e {
		all[i] = one
	}
	return all
}

// suggest returns the known word that is most similar to the given one, or "".
func suggest(word string, known []string) string {
	best, least := "", len(word)/3+2
	for _, k := range known {
		if d := typos(strings.ToLower(word), k); d < least && d < len(k) {
			best, least = k, d
		}
	}
	return best
}

// typos counts the letters to add, drop, change or swap with their neighbour.
func typos(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			change := rows[i-1][j-1]
			if a[i-1] != b[j-1] {
				change++
			}
			rows[i][j] = min(change, rows[i-1][j]+1, rows[i][j-1]+1)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}

// problems collects errors with the lines of the settings that they are about.
type problems struct {
	file     string
	lines    map[string]int     // of each setting that was given
	expanded map[string][]taint // texts that ${...} expanded to, by path
	found    Errors
	foreign  []misplacedKey
}

// taint is an expanded text, which an error must not contain.
type taint struct{ written, value string }

// add reports a problem of the setting with the complete message. It replaces expanded
// texts in it by the variables as written.
func (p *problems) add(line int, path, message string) {
	for _, taints := range p.expanded {
		for _, t := range taints {
			message = strings.ReplaceAll(message, fmt.Sprintf("%q", t.value), fmt.Sprintf("%q", t.written))
			if len(t.value) > 3 {
				message = strings.ReplaceAll(message, t.value, t.written)
			}
		}
	}
	p.found = append(p.found, &Error{File: p.file, Line: line, Path: path, Message: oneline.MaskURLs(message)})
}

// at reports a problem of a setting, given or not: its line is that of the innermost
// enclosing part that was given.
func (p *problems) at(path, format string, args ...any) {
	line, within := 0, path
	for line == 0 && within != "" {
		line = p.lines[within]
		within = within[:max(strings.LastIndexAny(within, ".["), 0)]
	}
	if line == 0 {
		line = p.lines[""]
	}
	message := fmt.Sprintf(format, args...)
	if !strings.HasPrefix(message, ":") {
		message = " " + message
	}
	p.add(line, path, path+message)
}

func (p *problems) err() error {
	if len(p.found) == 0 {
		return nil
	}
	slices.SortStableFunc(p.found, func(a, b *Error) int { return a.Line - b.Line })
	return p.found
}
