// Package oneline shows words of others (names of roles and instances, reasons, alerts, a
// server's errors) as one line that changes nothing around it: no terminal interprets it, and it
// can't look like a line of its own.
package oneline

import (
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

// limit is the number of characters that Of shows.
const limit = 300

// Of escapes a text, and shortens it to 300 characters.
func Of(s string) string { return Within(s, limit) }

// Within escapes a text, and shortens it to a number of characters.
func Within(s string, limit int) string {
	if len(s) > limit && utf8.RuneCountInString(s) > limit {
		at := 0
		for range limit {
			_, n := utf8.DecodeRuneInString(s[at:])
			at += n
		}
		return Escape(s[:at]) + " ..."
	}
	return Escape(s)
}

// Escape writes everything that does not print as Go does in a string: a line break is \n, an
// escape sequence begins with \x1b, a mark that turns the direction of writing around is
// \u202e, a byte that is not UTF-8 is \xff. Other texts stay as they are.
func Escape(s string) string {
	at := odd(s)
	if at < 0 {
		return s
	}
	var b strings.Builder
	b.WriteString(s[:at])
	for s = s[at:]; s != ""; {
		r, n := utf8.DecodeRuneInString(s)
		if shows(r, n) {
			b.WriteString(s[:n])
		} else {
			quoted := strconv.Quote(s[:n])
			b.WriteString(quoted[1 : len(quoted)-1])
		}
		s = s[n:]
	}
	return b.String()
}

// odd is the position of the first character that does not print; -1: there is none.
func odd(s string) int {
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		if !shows(r, n) {
			return i
		}
		i += n
	}
	return -1
}

func shows(r rune, n int) bool {
	return strconv.IsPrint(r) && (r != utf8.RuneError || n > 1)
}

// Markdown escapes a text for a paragraph, a list or a cell of a table: it begins no code, link,
// image, HTML or cell.
func Markdown(s string) string { return markup.Replace(Escape(s)) }

var markup = strings.NewReplacer(`\`, `\\`, "|", `\|`, "`", "\\`", "[", `\[`, "]", `\]`, "<", "&lt;", "&", "&amp;")

// userOf is what stands between a URL's scheme and its last @: more than its user and its password
// where something else is wrong with it.
var userOf = regexp.MustCompile(`([A-Za-z][A-Za-z0-9+.-]*:/{1,3})[^"\s]*@`)

// MaskURLs hides users and passwords of URLs in a text, such as a message that quotes a value
// which should have been none.
func MaskURLs(s string) string {
	if !strings.Contains(s, "@") {
		return s
	}
	return userOf.ReplaceAllString(s, "${1}***@")
}
