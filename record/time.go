package record

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// errNoTime has no text of the value: errors hold none.
var errNoTime = errors.New("the text is not a point in time")

// FormatTime returns the canonical text of a time in a field of the kind Date, Timestamp or
// TimestampTZ. It rounds to microseconds, as PostgreSQL does. Date and Timestamp take t's own
// clock, whatever its zone; TimestampTZ takes the instant. It fails for years that no
// PostgreSQL has (before 4713 BC, after 294276).
func FormatTime(kind Kind, t time.Time) (string, error) {
	layout := "-01-02T15:04:05.999999" // behind the year
	switch kind {
	case Date:
		layout = "-01-02"
	case Timestamp:
		t = t.Round(time.Microsecond)
	case TimestampTZ:
		t = t.Round(time.Microsecond).UTC()
		layout += "Z"
	default:
		return "", fmt.Errorf("a time is no value of the kind %s", kind)
	}
	year := t.Year()
	if year < -4712 || year > 294276 {
		return "", fmt.Errorf("the year %d is out of PostgreSQL's range", year)
	}
	if year > 0 {
		return fmt.Sprintf("%04d", year) + t.Format(layout), nil
	}
	return fmt.Sprintf("%04d", 1-year) + t.Format(layout) + " BC", nil // the year 0 of package time is 1 BC
}

// ParseTime reads a canonical text of the kind Date, Timestamp or TimestampTZ, and the other
// forms of an instant that comparisons take. The time is in UTC. It fails for infinity and
// -infinity, which are no time.Time.
func ParseTime(kind Kind, text string) (time.Time, error) {
	if kind == Date {
		day, bc := strings.CutSuffix(text, " BC")
		text = day + "T00:00:00"
		if bc {
			text += " BC"
		}
	}
	at, zoned, ok := parseInstant(text)
	switch {
	case !ok:
		return time.Time{}, errNoTime
	case at == future || at == past:
		return time.Time{}, errors.New("infinity is no time.Time")
	case kind == TimestampTZ && !zoned:
		return time.Time{}, fmt.Errorf("%w: it has no time zone", errNoTime)
	}
	seconds, micros := int64(at)/1e6, int64(at)%1e6
	return time.Unix(seconds+epochSeconds, micros*1000).UTC(), nil
}
