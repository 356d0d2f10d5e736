package record

import (
	"strconv"
	"strings"

	"github.com/cockroachdb/apd/v3"
)

// decimal is a parsed number that shares its text: ±(whole)(part) × 10^exponent, with the
// point between the two.
type decimal struct {
	form        decimalForm
	negative    bool
	whole, part string
	exponent    int64
}

type decimalForm uint8

const (
	finite decimalForm = iota
	infinite
	notANumber
)

// parseDecimal parses what PostgreSQL and JSON write. It refuses exponents beyond 18 digits,
// which would make arithmetic unbounded.
func parseDecimal(s string) (d decimal, ok bool) {
	if s != "" && (s[0] == '-' || s[0] == '+') {
		d.negative, s = s[0] == '-', s[1:]
	}
	switch {
	case s == "":
		return d, false
	case strings.EqualFold(s, "nan"):
		return decimal{form: notANumber}, true
	case strings.EqualFold(s, "infinity"), strings.EqualFold(s, "inf"):
		d.form = infinite
		return d, true
	}
	if at := strings.IndexAny(s, "eE"); at >= 0 {
		if d.exponent, ok = parseExponent(s[at+1:]); !ok {
			return d, false
		}
		s = s[:at]
	}
	d.whole, d.part, _ = strings.Cut(s, ".")
	return d, len(d.whole)+len(d.part) > 0 && allDigits(d.whole) && allDigits(d.part)
}

func parseExponent(s string) (int64, bool) {
	digits := strings.TrimLeft(s, "+-")
	if len(s)-len(digits) > 1 || digits == "" || !allDigits(digits) {
		return 0, false
	}
	significant := strings.TrimLeft(digits, "0")
	if significant == "" {
		return 0, true
	}
	if len(significant) > 18 {
		return 0, false
	}
	n, err := strconv.ParseInt(significant, 10, 64)
	if s[0] == '-' {
		n = -n
	}
	return n, err == nil
}

func allDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

func (d *decimal) digit(i int) byte {
	if i < len(d.whole) {
		return d.whole[i]
	}
	return d.part[i-len(d.whole)]
}

// significant returns the range of digits without the zeros at both ends.
func (d *decimal) significant() (from, to int) {
	to = len(d.whole) + len(d.part)
	for from < to && d.digit(from) == '0' {
		from++
	}
	for to > from && d.digit(to-1) == '0' {
		to--
	}
	return from, to
}

// equalDecimals compares exactly, without arithmetic: 1.0, 1.00 and 10e-1 are the same, and an
// exponent of a milliard costs nothing. NaN equals NaN, and -0 equals 0. It returns false when
// one of the texts is no number.
func equalDecimals(s, t string) bool {
	a, ok := parseDecimal(s)
	if !ok {
		return false
	}
	b, ok := parseDecimal(t)
	switch {
	case !ok || a.form != b.form:
		return false
	case a.form == notANumber:
		return true
	case a.form == infinite:
		return a.negative == b.negative
	}
	aFrom, aTo := a.significant()
	bFrom, bTo := b.significant()
	if aTo-aFrom != bTo-bFrom {
		return false
	}
	if aTo == aFrom {
		return true // zero
	}
	aPoint := int64(len(a.whole)-aFrom) + a.exponent
	bPoint := int64(len(b.whole)-bFrom) + b.exponent
	if a.negative != b.negative || aPoint != bPoint {
		return false
	}
	for i := range aTo - aFrom {
		if a.digit(aFrom+i) != b.digit(bFrom+i) {
			return false
		}
	}
	return true
}

// within reports whether two finite numbers differ by at most tolerance, without rounding. apd
// refuses exponents beyond 100,000, which bounds the work.
func within(s, t string, tolerance *apd.Decimal) bool {
	a, _, err := apd.NewFromString(s)
	if err != nil || a.Form != apd.Finite {
		return false
	}
	b, _, err := apd.NewFromString(t)
	if err != nil || b.Form != apd.Finite {
		return false
	}
	var difference apd.Decimal
	if _, err := apd.BaseContext.Sub(&difference, a, b); err != nil || difference.Form != apd.Finite {
		return false
	}
	difference.Negative = false
	return difference.Cmp(tolerance) <= 0
}

// parseTolerance parses a finite number that is not negative.
func parseTolerance(s string) (*apd.Decimal, bool) {
	d, _, err := apd.NewFromString(s)
	return d, err == nil && d.Form == apd.Finite && !d.Negative
}
