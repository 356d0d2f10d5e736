// Package oneline shows a foreign text as one line that a terminal does not interpret.
package oneline

import (
	"strings"
	"unicode"
)

// Of shortens a text to one line without control characters, at most 300 characters.
func Of(s string) string {
	printable := func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}
	s = strings.Join(strings.Fields(strings.Map(printable, s)), " ")
	if runes := []rune(s); len(runes) > 300 {
		return string(runes[:300]) + " ..."
	}
	return s
}
