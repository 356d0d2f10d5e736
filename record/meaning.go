package record

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// meanings are the values of Rule.As, with the kind as which a text is then compared.
var meanings = map[string]Kind{
	"boolean": Bool, "int": Decimal, "numeric": Decimal, "double": Float, "date": Date, "timestamp": Timestamp,
	"timestamptz": TimestampTZ, "uuid": UUID, "json": JSON, "jsonb": JSON,
}

func (r Rule) validateAs(depth int) error {
	_, known := meanings[r.As]
	switch {
	case r.As != "" && !known:
		return fmt.Errorf("path %q: as: %q: want one of %s", r.Path, r.As, strings.Join(slices.Sorted(maps.Keys(meanings)), ", "))
	case r.As != "" && depth > 1:
		return fmt.Errorf("path %q: as is for whole fields, and the elements of an array alike", r.Path)
	case r.Zone != "" && r.As != "timestamp" && r.As != "timestamptz":
		return fmt.Errorf("path %q: zone goes with as: timestamptz, or as: timestamp", r.Path)
	}
	return nil
}

// fitsAs reports whether a field of the kind may be read as the rule says. What is no text has
// its meaning: as then says how the other store's values are to be read.
func fitsAs(kind Kind, r Rule) bool {
	as := meanings[r.As]
	moment := kind == Timestamp || kind == TimestampTZ
	switch {
	case r.Zone != "":
		return moment || kind == Date
	case isText(kind):
		return true
	case numeric(kind) || kind == Bool:
		return numeric(as) || as == Bool
	case moment || kind == Date:
		return as == Timestamp || as == TimestampTZ || as == Date
	default:
		return as == kind
	}
}

func isText(kind Kind) bool { return kind == Text || kind == Other }

// Meant returns the canonical text of a text that means a value of the kind, by PostgreSQL's
// rules of reading it; the text itself where it has none.
func Meant(kind Kind, text string) string {
	switch kind {
	case UUID:
		return meantUUID(text)
	case Bool:
		return meantBool(text)
	case Decimal, Float, Date, Timestamp, TimestampTZ:
		return strings.Trim(text, " \t\n\v\f\r")
	default:
		return text
	}
}

// meantUUID reads what PostgreSQL takes: either case, braces around it, and a hyphen after any
// group of four digits.
func meantUUID(text string) string {
	digits := text
	if inner, open := strings.CutPrefix(text, "{"); open {
		var closed bool
		if digits, closed = strings.CutSuffix(inner, "}"); !closed {
			return text
		}
	}
	var hex []byte
	for i := range len(digits) {
		switch c := digits[i]; {
		case c >= '0' && c <= '9', c >= 'a' && c <= 'f':
			hex = append(hex, c)
		case c >= 'A' && c <= 'F':
			hex = append(hex, c-'A'+'a')
		case c == '-' && len(hex)%4 == 0 && len(hex) > 0 && digits[i-1] != '-':
		default:
			return text
		}
	}
	if len(hex) != 32 || strings.HasSuffix(digits, "-") {
		return text
	}
	h := string(hex)
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// meantBool reads what PostgreSQL takes: the unique beginnings of true, false, yes, no, on and
// off, in either case, and 1 and 0.
func meantBool(text string) string {
	word := strings.ToLower(strings.Trim(text, " \t\n\v\f\r"))
	begins := func(of string, least int) bool { return len(word) >= least && strings.HasPrefix(of, word) }
	switch {
	case word == "1", word == "on", begins("true", 1), begins("yes", 1):
		return "true"
	case word == "0", begins("off", 2), begins("false", 1), begins("no", 1):
		return "false"
	}
	return text
}
