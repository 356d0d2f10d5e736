// Package wordrule holds the tests of the project's words: documents, comments,
// messages and identifiers use the glossary, and no indefinite persons.
package wordrule

import (
	"regexp"
	"strings"
	"unicode"
)

// unplain are words that no text uses: indefinite persons, words of saying for events,
// and what the glossary replaces (by migration file, rollback, repair, report, resume,
// heartbeat, journaled, again).
var unplain = regexp.MustCompile(`(?i)\b(whoever|(some|any|every)(body|one)|anew|told|` +
	`(way|takes?|taken) back|takes? reads back|stands still|goes on with|gone on with|taken up again|` +
	`mend(s|ed)?|the description of the migration|a migration's description|sign of life|without a word|courier|works again)\b|\bnobody\b`)

// unplainNames are words that no identifier has.
var unplainNames = map[string]string{
	"told": "logged, notified, recorded", "tell": "report", "tells": "reports", "said": "reported, answer", "anew": "again",
	"nobody": "none", "somebody": "another", "whoever": "", "someone": "", "mend": "repair", "mended": "repaired", "stray": "unknownKey",
	"crew": "workerPool", "courier": "sender", "keeper": "maintainer", "standing": "status", "witness": "stateLoss",
	"rescue": "rollBack", "sight": "observation", "bury": "tombstone", "journalled": "journaled",
}

// words splits an identifier at its capitals: readHTTPBody is read, http, body.
func words(name string) []string {
	var found []string
	runes := []rune(name)
	from := 0
	for i := 1; i <= len(runes); i++ {
		if i == len(runes) || unicode.IsUpper(runes[i]) && (!unicode.IsUpper(runes[i-1]) || i+1 < len(runes) && unicode.IsLower(runes[i+1])) || runes[i] == '_' {
			found = append(found, strings.ToLower(strings.Trim(string(runes[from:i]), "_")))
			from = i
		}
	}
	return found
}
