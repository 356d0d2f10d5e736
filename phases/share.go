package phases

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Share is a share in millionths, written with a percent sign: "0.1%" is 1000.
type Share uint32

// Whole is 100 %.
const Whole Share = 1_000_000

// ParseShare reads "0.1%" or "95 %", from 0 to 100, with at most four decimals.
func ParseShare(s string) (Share, error) {
	number, signed := strings.CutSuffix(s, "%")
	f, err := strconv.ParseFloat(strings.TrimSuffix(number, " "), 64)
	if err != nil || !signed || !(f >= 0 && f <= 100) { // NaN too
		return 0, fmt.Errorf("share %q: want a number from 0 to 100 with a percent sign, such as 0.1%%", s)
	}
	millionths := math.Round(f * 1e4)
	if math.Abs(millionths-f*1e4) > 1e-6 {
		return 0, fmt.Errorf("share %q: at most four decimals", s)
	}
	return Share(millionths), nil
}

// Ratio is the share as a number from 0 to 1.
func (s Share) Ratio() float64 { return float64(s) / float64(Whole) }

// String writes "0.1%".
func (s Share) String() string { return strconv.FormatFloat(float64(s)/1e4, 'f', -1, 64) + "%" }

// MarshalText implements encoding.TextMarshaler.
func (s Share) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *Share) UnmarshalText(text []byte) error {
	parsed, err := ParseShare(string(text))
	if err != nil {
		return err
	}
	*s = parsed
	return nil
}
