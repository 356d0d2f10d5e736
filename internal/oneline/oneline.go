package oneline

import (
	"strings"
	"unicode"
)

// brief keeps a text to a line that a terminal shows and does not obey.
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
