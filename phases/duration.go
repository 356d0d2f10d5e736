package phases

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Duration is a time.Duration that also reads days: "30d", "1d12h".
type Duration time.Duration

// maxDays is the longest time.Duration in whole days.
const maxDays = int64(math.MaxInt64 / (24 * time.Hour))

// ParseDuration reads Go's durations, and a leading number of days.
func ParseDuration(s string) (Duration, error) {
	refused := fmt.Errorf("duration %q: want something like 30d, 36h or 1d12h", s)
	n, rest, inDays := strings.Cut(s, "d")
	if !inDays {
		d, err := time.ParseDuration(s)
		if err != nil {
			return 0, refused
		}
		return Duration(d), nil
	}
	days, err := strconv.ParseInt(n, 10, 64)
	if err != nil || days < 0 || days > maxDays || strconv.FormatInt(days, 10) != n {
		return 0, refused
	}
	whole := time.Duration(days) * 24 * time.Hour
	if rest == "" {
		return Duration(whole), nil
	}
	d, err := time.ParseDuration(rest)
	if err != nil || rest[0] == '-' || rest[0] == '+' || d > math.MaxInt64-whole {
		return 0, refused
	}
	return Duration(whole + d), nil
}

// String writes days where they are whole.
func (d Duration) String() string {
	t := time.Duration(d)
	if t >= 24*time.Hour && t%(24*time.Hour) == 0 {
		return fmt.Sprintf("%dd", t/(24*time.Hour))
	}
	s := t.String()
	s = strings.TrimSuffix(s, "m0s")
	if s != t.String() {
		s += "m"
	}
	if trimmed := strings.TrimSuffix(s, "h0m"); trimmed != s {
		s = trimmed + "h"
	}
	return s
}

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(text []byte) error {
	parsed, err := ParseDuration(string(text))
	if err != nil {
		return err
	}
	*d = parsed
	return nil
}
