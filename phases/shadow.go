package phases

import "fmt"

// Shadow is the share of reads that are compared, where one is set. The zero value: none is, and
// each application compares the share that it was built with.
type Shadow int32 // of hundredths of a per cent, plus one

// SetShadow is a share that is set; 0: nothing is compared.
func SetShadow(p Percent) Shadow { return Shadow(p) + 1 }

// Percent returns the share, if one is set.
func (s Shadow) Percent() (p Percent, set bool) {
	if s <= 0 {
		return 0, false
	}
	return Percent(s - 1), true
}

// IsZero reports that no share is set; JSON omits it then (omitzero).
func (s Shadow) IsZero() bool { return s == 0 }

// String is the number without a sign; "" if none is set.
func (s Shadow) String() string {
	if p, set := s.Percent(); set {
		return p.String()
	}
	return ""
}

// MarshalText implements encoding.TextMarshaler (YAML).
func (s Shadow) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler: a percentage, which may be 0.
func (s *Shadow) UnmarshalText(text []byte) error {
	var p Percent
	if string(text) != "0" {
		var err error
		if p, err = ParsePercent(string(text)); err != nil {
			return fmt.Errorf("percentage %q: want a number from 0 to 100, with two decimals at most", text)
		}
	}
	*s = SetShadow(p)
	return nil
}

// MarshalJSON writes a plain number; null if none is set.
func (s Shadow) MarshalJSON() ([]byte, error) {
	if s.IsZero() {
		return []byte("null"), nil
	}
	return s.MarshalText()
}

// UnmarshalJSON reads a plain number, or null.
func (s *Shadow) UnmarshalJSON(data []byte) error {
	if string(data) == "null" {
		*s = 0
		return nil
	}
	return s.UnmarshalText(data)
}
