package redis

import (
	"fmt"
	"strings"

	"github.com/stranglerfig/migrator/record"
)

// shape describes the bytes of a column's text inside a Redis key, and so where a
// parser sees it begin and end.
type shape struct {
	kind  record.Kind
	text  bool   // any text, with some bytes written as %XX
	bytes string // if not text: the bytes that may occur
	later string // the bytes that may occur after the first byte that is no sign
	width int    // the length of all texts; 0 if it varies
}

const (
	digits  = "0123456789"
	bc      = " BC"
	endless = "infty" // of infinity
)

func shapeOf(f record.Field) (shape, error) {
	sh := shape{kind: f.Kind}
	switch f.Kind {
	case record.Text, record.Bytes, record.Other:
		sh.text = true
		return sh, nil
	case record.Int:
		sh.bytes, sh.later = "-"+digits, digits
		return sh, nil
	case record.UUID:
		sh.bytes, sh.width = "-0123456789abcdef", 36
	case record.Bool:
		sh.bytes = "aeflrstu"
	case record.Decimal:
		sh.bytes = "-." + digits + "NaInfity"
	case record.Date:
		sh.bytes = "-" + digits + bc + endless
	case record.TimeOfDay:
		sh.bytes = "-+.:" + digits
	case record.Timestamp, record.TimestampTZ:
		sh.bytes = "-.:TZ" + digits + bc + endless
	case record.Interval:
		sh.bytes = "-.:PYMWDTHS" + digits + endless
	default:
		return sh, fmt.Errorf("column %q is of kind %s, whose equal values have several texts: it can't be part of a Redis key", f.Name, f.Kind)
	}
	sh.later = sh.bytes
	return sh, nil
}

// endsBefore reports whether a parser that reads from the left, and knows that the
// literal follows, sees the text's end.
func (sh shape) endsBefore(literal string) bool {
	return sh.width > 0 || literal != "" && !sh.allows(sh.later, literal[0])
}

// beginsAfter reports the same for a parser that reads from the right, with the
// literal before the text.
func (sh shape) beginsAfter(literal string) bool {
	return sh.width > 0 || literal != "" && !sh.allows(sh.bytes, literal[len(literal)-1])
}

// allows reports whether a text may have the byte; bytes is used if sh is not text.
func (sh shape) allows(bytes string, c byte) bool {
	if sh.text {
		return c == '%' || !escaped(c)
	}
	return strings.IndexByte(bytes, c) >= 0
}

// fromLeft is the length of the longest prefix of s that may be this column's text.
func (sh shape) fromLeft(s string) int {
	if sh.width > 0 {
		return min(sh.width, len(s))
	}
	n := 0
	if sh.kind == record.Int && strings.HasPrefix(s, "-") {
		n++
	}
	for n < len(s) && sh.allows(sh.later, s[n]) {
		n++
	}
	return n
}

func (sh shape) fromRight(s string) int {
	if sh.width > 0 {
		return min(sh.width, len(s))
	}
	n := 0
	for n < len(s) && sh.allows(sh.bytes, s[len(s)-1-n]) {
		n++
	}
	return n
}

// valid reports whether s may be a canonical text. The check is strict for the usual
// kinds of keys; for the others it tests the bytes only.
func (sh shape) valid(s string) bool {
	if sh.text {
		return true
	}
	switch sh.kind {
	case record.Int:
		return isInt(s)
	case record.Bool:
		return s == "true" || s == "false"
	case record.UUID:
		return isUUID(s)
	}
	for i := range len(s) {
		if !sh.allows(sh.bytes, s[i]) {
			return false
		}
	}
	return s != ""
}

func isInt(s string) bool {
	d := strings.TrimPrefix(s, "-")
	if d == "" || d[0] == '0' && s != "0" {
		return false
	}
	for i := range len(d) {
		if d[i] < '0' || d[i] > '9' {
			return false
		}
	}
	return true
}

func isUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := range len(s) {
		hyphen := i == 8 || i == 13 || i == 18 || i == 23
		if hyphen != (s[i] == '-') || strings.IndexByte("-0123456789abcdef", s[i]) < 0 {
			return false
		}
	}
	return true
}

// escaped reports whether a byte of a text is written as %XX.
func escaped(c byte) bool { return c < 0x20 || c == 0x7f || c == '%' || c == '{' || c == '}' }

const upperHex = "0123456789ABCDEF"

func (sh shape) append(dst []byte, s string) []byte {
	if !sh.text {
		return append(dst, s...)
	}
	for i := range len(s) {
		if c := s[i]; escaped(c) {
			dst = append(dst, '%', upperHex[c>>4], upperHex[c&15])
		} else {
			dst = append(dst, c)
		}
	}
	return dst
}

// read is the inverse of append; false if append does not produce s.
func (sh shape) read(s string) (string, bool) {
	if !sh.text {
		return s, sh.valid(s)
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == '%' {
			if i+2 >= len(s) {
				return "", false
			}
			high, low := strings.IndexByte(upperHex, s[i+1]), strings.IndexByte(upperHex, s[i+2])
			if high < 0 || low < 0 || !escaped(byte(high<<4|low)) {
				return "", false
			}
			c = byte(high<<4 | low)
			i += 2
		} else if escaped(c) {
			return "", false
		}
		b.WriteByte(c)
	}
	return b.String(), true
}
