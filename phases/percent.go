package phases

import (
	"fmt"
	"math"
	"strconv"
)

// Percent is a share in hundredths of a per cent: 10000 is all.
type Percent uint16

// All is 100 %.
const All Percent = 10000

// ParsePercent reads "25" or "0.5", above 0 and up to 100, with at most two decimals.
func ParsePercent(s string) (Percent, error) {
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || !(f > 0 && f <= 100) { // NaN too
		return 0, fmt.Errorf("percentage %q: want a number above 0 and up to 100", s)
	}
	hundredths := math.Round(f * 100)
	if hundredths < 1 || math.Abs(hundredths-f*100) > 1e-6 {
		return 0, fmt.Errorf("percentage %q: at most two decimals", s)
	}
	return Percent(hundredths), nil
}

// String is the number without a sign: "25", "0.5".
func (p Percent) String() string { return strconv.FormatFloat(float64(p)/100, 'f', -1, 64) }

// MarshalText implements encoding.TextMarshaler (YAML, map keys).
func (p Percent) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (p *Percent) UnmarshalText(text []byte) error {
	parsed, err := ParsePercent(string(text))
	if err != nil {
		return err
	}
	*p = parsed
	return nil
}

// MarshalJSON writes a plain number.
func (p Percent) MarshalJSON() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalJSON reads a plain number; 0 is allowed.
func (p *Percent) UnmarshalJSON(data []byte) error {
	if string(data) == "0" {
		*p = 0
		return nil
	}
	return p.UnmarshalText(data)
}

// Takes reports whether the share p of all keys contains the key with this hash.
// A key that a smaller share contains is in every greater one.
func (p Percent) Takes(hash uint64) bool { return hash%uint64(All) < uint64(p) }
