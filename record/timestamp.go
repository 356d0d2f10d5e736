package record

import (
	"math"
	"strings"
	"time"
)

// instant is a time in microseconds since 2000-01-01 UTC, the range of PostgreSQL's timestamps
// (4713 BC to 294276 AD). The two ends are the infinities.
type instant int64

const (
	future instant = math.MaxInt64
	past   instant = math.MinInt64

	epochSeconds = 946684800 // 2000-01-01 in Unix time
)

// cut rounds down to the unit.
func (i instant) cut(unit time.Duration) instant {
	micros := instant(unit / time.Microsecond)
	if i == future || i == past || micros <= 1 {
		return i
	}
	rest := i % micros
	if rest < 0 {
		rest += micros
	}
	return i - rest
}

// parseInstant parses a timestamp: the canonical form, or RFC 3339 with any offset, a space
// for the T, " BC" at the end. Digits beyond the microsecond are cut off. A text without a
// zone counts as UTC; zoned reports whether it has one.
func parseInstant(s string) (at instant, zoned, ok bool) {
	switch {
	case strings.EqualFold(s, "infinity"):
		return future, true, true
	case strings.EqualFold(s, "-infinity"):
		return past, true, true
	}
	s, bc := strings.CutSuffix(s, " BC")
	digits := 0
	for digits < len(s) && s[digits] >= '0' && s[digits] <= '9' {
		digits++
	}
	if digits < 4 || digits > 6 || len(s) < digits+len("-01-02T15:04:05") {
		return 0, false, false
	}
	year, _ := number(s[:digits])
	rest := s[digits:]
	if rest[0] != '-' || rest[3] != '-' || rest[6] != 'T' && rest[6] != 't' && rest[6] != ' ' || rest[9] != ':' || rest[12] != ':' {
		return 0, false, false
	}
	var parts [5]int // month, day, hour, minute, second
	for i, from := range [5]int{1, 4, 7, 10, 13} {
		if parts[i], ok = number(rest[from : from+2]); !ok {
			return 0, false, false
		}
	}
	micros, rest, ok := fraction(rest[15:])
	if !ok {
		return 0, false, false
	}
	offset, zoned, ok := parseOffset(rest)
	if bc {
		year = 1 - year
	}
	if !ok || year > 294276 || year < -4713 || bc && year > 0 || parts[2] > 23 || parts[3] > 59 || parts[4] > 59 {
		return 0, false, false
	}
	t := time.Date(year, time.Month(parts[0]), parts[1], parts[2], parts[3], parts[4], 0, time.UTC)
	if t.Month() != time.Month(parts[0]) || t.Day() != parts[1] {
		return 0, false, false // no such month or day
	}
	return instant((t.Unix()-epochSeconds-int64(offset))*1e6 + int64(micros)), zoned, true
}

func number(s string) (n int, ok bool) {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = n*10 + int(s[i]-'0')
	}
	return n, s != ""
}

// fraction parses an optional ".123456".
func fraction(s string) (micros int, rest string, ok bool) {
	if s == "" || s[0] != '.' {
		return 0, s, true
	}
	s = s[1:]
	n := 0
	for n < len(s) && s[n] >= '0' && s[n] <= '9' {
		n++
	}
	micros, _ = number(s[:min(n, 6)])
	for range 6 - min(n, 6) {
		micros *= 10
	}
	return micros, s[n:], n > 0
}

// parseOffset parses "", Z, ±hh, ±hh:mm, ±hhmm or ±hh:mm:ss, in seconds east.
func parseOffset(s string) (seconds int, zoned, ok bool) {
	switch {
	case s == "":
		return 0, false, true
	case s == "Z" || s == "z":
		return 0, true, true
	case s[0] != '+' && s[0] != '-':
		return 0, false, false
	}
	digits := s[1:]
	switch len(digits) {
	case 2, 4: // hh, hhmm
	case 5: // hh:mm
		if digits[2] != ':' {
			return 0, false, false
		}
		digits = digits[:2] + digits[3:]
	case 8: // hh:mm:ss
		if digits[2] != ':' || digits[5] != ':' {
			return 0, false, false
		}
		digits = digits[:2] + digits[3:5] + digits[6:]
	default:
		return 0, false, false
	}
	for i, unit := 0, 3600; i < len(digits); i, unit = i+2, unit/60 {
		n, ok := number(digits[i : i+2])
		if !ok || n > 59 || i == 0 && n > 15 {
			return 0, false, false
		}
		seconds += n * unit
	}
	if s[0] == '-' {
		seconds = -seconds
	}
	return seconds, true, true
}
