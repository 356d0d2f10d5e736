package phases

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Size is a number of bytes, written with a unit: "512MiB", "10GiB".
type Size int64

var sizeUnits = []struct {
	name  string
	bytes Size
}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}}

// ParseSize reads a whole number with a unit: B, KiB, MiB, GiB or TiB.
func ParseSize(s string) (Size, error) {
	for _, unit := range sizeUnits {
		number, ok := strings.CutSuffix(s, unit.name)
		if !ok {
			continue
		}
		number = strings.TrimSuffix(number, " ")
		n, err := strconv.ParseInt(number, 10, 64)
		if err != nil || n < 0 || strconv.FormatInt(n, 10) != number || n > math.MaxInt64/int64(unit.bytes) {
			break
		}
		return Size(n) * unit.bytes, nil
	}
	return 0, fmt.Errorf("size %q: want a whole number and a unit, such as 512MiB or 10GiB", s)
}

// String writes the largest unit of which it is a whole number.
func (s Size) String() string {
	for _, unit := range sizeUnits {
		if s != 0 && s%unit.bytes == 0 {
			return strconv.FormatInt(int64(s/unit.bytes), 10) + unit.name
		}
	}
	return "0B"
}

// MarshalText implements encoding.TextMarshaler.
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *Size) UnmarshalText(text []byte) error {
	parsed, err := ParseSize(string(text))
	if err != nil {
		return err
	}
	*s = parsed
	return nil
}
