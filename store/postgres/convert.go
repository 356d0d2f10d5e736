package postgres

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/stranglerfig/migrator/record"
)

// conversion changes canonical texts of a field where the target's column is of another type than
// legacy's. Records have legacy's form everywhere; only what is sent to the target, and read from
// it, has the column's.
//
// What toTarget returns, toLegacy turns back to a text that legacy reads as the value it had. A
// value for which that is not so is an error: it is not moved, and never changed on the way. Nil:
// the text stays.
type conversion struct {
	toTarget, toLegacy change
}

// change appends the changed text. Its errors contain no value.
type change func(dst, text []byte) ([]byte, error)

// readLegacy returns the change of what is read; a text that stays, as it is.
func (c *column) readLegacy(dst, text []byte) ([]byte, error) {
	if c.conversion == nil || c.conversion.toLegacy == nil {
		return append(dst, text...), nil
	}
	return c.conversion.toLegacy(dst, text)
}

// changesBack reports whether texts that are read from the column are changed.
func (c *column) changesBack() bool { return c.conversion != nil && c.conversion.toLegacy != nil }

func (c *column) changesThere() bool { return c.conversion != nil && c.conversion.toTarget != nil }

// converted is a render of the column with its conversion.
func (c *column) converted(own render) render {
	if !c.changesBack() {
		return own
	}
	var scratch []byte
	return func(dst, raw []byte) (_ []byte, err error) {
		if scratch, err = own(scratch[:0], raw); err != nil {
			return dst, err
		}
		return c.readLegacy(dst, scratch)
	}
}

// errUnfit is a value that the other side's type can't hold, or would give back changed.
type errUnfit string

// Error implements error.
func (e errUnfit) Error() string { return string(e) }

const (
	errFraction  errUnfit = "the value has more digits behind the point than the target's column holds"
	errPrecise   errUnfit = "the value has more digits than the target's floating-point number holds"
	errNotWhole  errUnfit = "the value is no whole number"
	errNoNumber  errUnfit = "the value is no number"
	errDigits    errUnfit = "the value has more digits than legacy's column holds"
	errBlanks    errUnfit = "the text ends in blanks, which the target's column of a fixed length does not keep"
	errLong      errUnfit = "the text is longer than the target's column takes"
	errClock     errUnfit = "the value has a time of day, which a date does not hold"
	errNoDate    errUnfit = "the value is no date"
	errNoMoment  errUnfit = "the value is no point in time of its type"
	errGap       errUnfit = "the value is a local time that the time zone skips"
	errTwice     errUnfit = "the value is in an hour that the time zone has twice: the local time does not say which"
	errBoolean   errUnfit = "the value is neither true nor false (1 or 0)"
	errWholeText errUnfit = "the array has bounds of its own"
)

// unfitIn names the type that a value does not fit.
func (c *column) unfitIn(err error) error {
	return fmt.Errorf("to %s: %w", c.declared, err)
}

// numeric kinds

func numberToTarget(to record.Kind, plain plainType) change {
	scale, scaled := plain.scale()
	return func(dst, text []byte) ([]byte, error) {
		text = bytes.Trim(text, blanks)
		n, ok := parseNumber(text)
		switch {
		case !ok && to == record.Int:
			return dst, errNotWhole
		case !ok && isNoFinite(text):
			return append(dst, text...), nil
		case !ok:
			return dst, errNoNumber
		}
		switch {
		case to == record.Int && n.exponent < 0:
			return dst, errNotWhole
		case to == record.Float && !n.isFloat(text, 64), to == record.Float32 && !n.isFloat(text, 32):
			return dst, errPrecise
		case scaled && !n.fits(scale):
			return dst, errFraction
		case to == record.Float || to == record.Float32:
			return append(dst, text...), nil // with the sign of -0
		}
		return n.append(dst, 0), nil
	}
}

const blanks = " \t\n\v\f\r"

func isNoFinite(text []byte) bool {
	switch strings.ToLower(strings.Trim(string(text), blanks+"+-")) {
	case "nan", "infinity", "inf":
		return true
	}
	return false
}

// numberToLegacy returns the digits that legacy has. Legacy's server would round a number that its
// type can't hold, unless it is an integer, of which it refuses the text.
func numberToLegacy(from record.Kind, plain plainType) change {
	scale, scaled := plain.scale()
	return func(dst, text []byte) ([]byte, error) {
		n, ok := parseNumber(text)
		if !ok {
			return append(dst, text...), nil
		}
		switch from {
		case record.Int:
			if n.exponent < 0 {
				return append(dst, text...), nil
			}
			return n.append(dst, 0), nil
		case record.Decimal:
			if scaled && !n.fits(scale) {
				return dst, errDigits
			}
			if !scaled {
				scale = behindPoint(text)
			}
			return n.append(dst, scale), nil
		case record.Float:
			if !n.isFloat(text, 64) {
				return dst, errDigits
			}
		case record.Float32:
			if !n.isFloat(text, 32) {
				return float32Of(dst, text)
			}
		}
		return append(dst, text...), nil
	}
}

// float32Of prints a double that a cast from real gave: all its digits are those of the real.
func float32Of(dst, text []byte) ([]byte, error) {
	f, err := strconv.ParseFloat(string(text), 64)
	if err != nil || float64(float32(f)) != f {
		return dst, errDigits
	}
	return strconv.AppendFloat(dst, f, 'g', -1, 32), nil
}

// behindPoint counts the digits behind the point of a text without an exponent.
func behindPoint(text []byte) int {
	_, part, _ := bytes.Cut(text, []byte("."))
	if bytes.ContainsAny(part, "eE") {
		return 0
	}
	return len(part)
}

// boolean

func boolToInt(dst, text []byte) ([]byte, error) {
	switch string(text) {
	case "true":
		return append(dst, '1'), nil
	case "false":
		return append(dst, '0'), nil
	}
	return dst, errBoolean
}

func intToBool(dst, text []byte) ([]byte, error) {
	switch string(text) {
	case "1":
		return append(dst, "true"...), nil
	case "0":
		return append(dst, "false"...), nil
	}
	return dst, errBoolean
}

// boolFromInt leaves other numbers as they are: they are no boolean's text, in legacy too.
func boolFromInt(dst, text []byte) ([]byte, error) {
	if out, err := intToBool(dst, text); err == nil {
		return out, nil
	}
	return append(dst, text...), nil
}

func textToBool(dst, text []byte) ([]byte, error) {
	meant := record.Meant(record.Bool, string(text))
	if meant != "true" && meant != "false" {
		return dst, errBoolean
	}
	return append(dst, meant...), nil
}

// dates and times

const midnight = "T00:00:00"

func dateToTimestamp(dst, text []byte) ([]byte, error) {
	if bytes.HasSuffix(text, []byte("infinity")) {
		return append(dst, text...), nil
	}
	day, bc := bytes.CutSuffix(text, suffixBC)
	return appendEra(append(append(dst, day...), midnight...), bc), nil
}

func timestampToDate(dst, text []byte) ([]byte, error) {
	if bytes.HasSuffix(text, []byte("infinity")) {
		return append(dst, text...), nil
	}
	body, bc := bytes.CutSuffix(text, suffixBC)
	day, ok := bytes.CutSuffix(body, []byte(midnight))
	if !ok {
		return dst, errClock
	}
	return appendEra(append(dst, day...), bc), nil
}

func localToInstant(zone *time.Location) change {
	return func(dst, text []byte) ([]byte, error) {
		if bytes.HasSuffix(text, []byte("infinity")) {
			return append(dst, text...), nil
		}
		wall, err := record.ParseTime(record.Timestamp, string(text))
		if err != nil {
			return dst, errNoMoment
		}
		at, ok := instantOf(wall, zone)
		if !ok {
			return dst, errGap
		}
		return appendTime(dst, record.TimestampTZ, at)
	}
}

func instantToLocal(zone *time.Location) change {
	return func(dst, text []byte) ([]byte, error) {
		if bytes.HasSuffix(text, []byte("infinity")) {
			return append(dst, text...), nil
		}
		at, err := record.ParseTime(record.TimestampTZ, string(text))
		if err != nil {
			return dst, errNoMoment
		}
		local := at.In(zone)
		if back, ok := instantOf(wallOf(local), zone); !ok || !back.Equal(at) {
			return dst, errTwice
		}
		return appendTime(dst, record.Timestamp, local)
	}
}

func appendTime(dst []byte, kind record.Kind, at time.Time) ([]byte, error) {
	text, err := record.FormatTime(kind, at)
	if err != nil {
		return dst, errNoMoment
	}
	return append(dst, text...), nil
}

// wallOf is what the clock shows, as if it were UTC.
func wallOf(t time.Time) time.Time {
	return time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), time.UTC)
}

// instantOf is when the zone's clocks showed the time; of two such instants the later one, as
// PostgreSQL takes it; false if they never did.
func instantOf(wall time.Time, zone *time.Location) (at time.Time, ok bool) {
	for _, near := range []time.Duration{-24 * time.Hour, 24 * time.Hour} {
		_, offset := wall.Add(near).In(zone).Zone()
		candidate := wall.Add(-time.Duration(offset) * time.Second)
		if wallOf(candidate.In(zone)).Equal(wall) && (!ok || candidate.After(at)) {
			at, ok = candidate, true
		}
	}
	return at, ok
}

// strictDate and the like refuse texts of which the server would take a part alone.
func strictDate(dst, text []byte) ([]byte, error) {
	trimmed := bytes.Trim(text, blanks)
	if _, ok := encodeDate(nil, trimmed); !ok {
		return dst, errNoDate
	}
	return append(dst, trimmed...), nil
}

func strictMoment(kind record.Kind) change {
	return func(dst, text []byte) ([]byte, error) {
		trimmed := strings.Trim(string(text), blanks)
		if strings.HasSuffix(trimmed, "infinity") {
			return append(dst, trimmed...), nil
		}
		at, err := record.ParseTime(kind, trimmed)
		if err != nil {
			return dst, errNoMoment
		}
		if kind == record.Timestamp && hasZone(trimmed) {
			return dst, errNoMoment
		}
		return appendTime(dst, kind, at)
	}
}

// hasZone looks behind the seconds of a timestamp's text.
func hasZone(text string) bool {
	_, clock, _ := strings.Cut(strings.ToUpper(strings.Replace(text, " ", "T", 1)), "T")
	return strings.ContainsAny(clock, "Z+-")
}

// texts

func trimBlanks(dst, text []byte) ([]byte, error) {
	return append(dst, bytes.TrimRight(text, " ")...), nil
}

func refuseBlanks(dst, text []byte) ([]byte, error) {
	if bytes.HasSuffix(text, []byte(" ")) {
		return dst, errBlanks
	}
	return append(dst, text...), nil
}

// padTo gives back the blanks that legacy's character(n) has.
func padTo(length int) change {
	return func(dst, text []byte) ([]byte, error) {
		text = bytes.TrimRight(text, " ")
		dst = append(dst, text...)
		for range length - utf8.RuneCount(text) {
			dst = append(dst, ' ')
		}
		return dst, nil
	}
}

// maxChars refuses what the server would cut: it takes a text that is longer by blanks alone.
func maxChars(length int) change {
	return func(dst, text []byte) ([]byte, error) {
		if utf8.RuneCount(text) > length {
			return dst, errLong
		}
		return append(dst, text...), nil
	}
}

func maxBytes(length int) change {
	return func(dst, text []byte) ([]byte, error) {
		if len(text) > length {
			return dst, errLong
		}
		return append(dst, text...), nil
	}
}

// nameBytes is how much of a text the type name keeps.
const nameBytes = 63

// addresses

func cidrFromInet(dst, text []byte) ([]byte, error) {
	dst = append(dst, text...)
	if bytes.IndexByte(text, '/') >= 0 {
		return dst, nil
	}
	return append(dst, hostBits(text)...), nil
}

func inetFromCidr(dst, text []byte) ([]byte, error) {
	return append(dst, bytes.TrimSuffix(text, []byte(hostBits(text)))...), nil
}

func hostBits(address []byte) string {
	if bytes.IndexByte(address, ':') >= 0 {
		return "/128"
	}
	return "/32"
}
