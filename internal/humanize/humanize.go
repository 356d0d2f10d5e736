// Package humanize formats numbers and times for operators.
package humanize

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Count formats n as 1,234,567.
func Count[N int | int64 | uint64](n N) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// Counted formats "1 check", "1,234 checks".
func Counted[N int | int64 | uint64](n N, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return Count(n) + " " + noun
}

// Ago formats how long before now t was, rounded as by Span.
func Ago(now, t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return Span(now.Sub(t)) + " ago"
}

// Span formats a duration; the longer it is, the more it is rounded.
func Span(d time.Duration) string {
	switch {
	case d < 0:
		return "0s"
	case d < 10*time.Second:
		return d.Round(100 * time.Millisecond).String()
	case d < time.Hour:
		return d.Round(time.Second).String()
	case d < 48*time.Hour:
		return strings.TrimSuffix(d.Round(time.Minute).String(), "0s")
	default:
		return fmt.Sprintf("%dd", int(d.Hours()/24))
	}
}

// Short returns the first 12 characters of a hash.
func Short(hash string) string { return hash[:min(12, len(hash))] }

// Bytes is "512 B", "1.5 MiB" or "10 GiB".
func Bytes(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	f, unit := float64(n), 0
	for unit < len(units)-1 && f >= 1023.95 {
		f, unit = f/1024, unit+1
	}
	return strings.TrimSuffix(strconv.FormatFloat(f, 'f', 1, 64), ".0") + " " + units[unit]
}

// Either returns the form of a verb or pronoun that goes with n things.
func Either[N int | int64](n N, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}
