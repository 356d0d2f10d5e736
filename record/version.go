package record

import (
	"encoding/hex"
	"fmt"
	"math"
)

// Version orders the states of one key: a later state has the greater version.
// It is (era, timeline, LSN), written as 8 + 8 + 16 lower-case hexadecimal
// digits, so that comparing the texts compares the versions. The zero Version
// means "none": it is older than every version that a store hands out.
//
// With PostgreSQL as legacy the three parts come from the write itself (see
// stores/postgres). In the phase retain the target numbers its own writes: the
// era of the fence, and a counter in the other two parts.
type Version struct {
	Era      uint32
	Timeline uint32
	LSN      uint64
}

// VersionDigits is the length of a version's text form, in bytes.
const VersionDigits = 32

// MaxVersion is not older than any.
var MaxVersion = Version{Era: math.MaxUint32, Timeline: math.MaxUint32, LSN: math.MaxUint64}

// IsZero tells that v is "none".
func (v Version) IsZero() bool { return v == Version{} }

// Compare is negative when v is older than w, zero when they are the same state,
// positive when v is newer.
func (v Version) Compare(w Version) int {
	switch {
	// [version-era], [version-timeline]: the LSN decides last. A promoted standby begins at a lower
	// one, and so does a server after a restore.
	case v.Era != w.Era:
		return order(uint64(v.Era), uint64(w.Era))
	case v.Timeline != w.Timeline:
		return order(uint64(v.Timeline), uint64(w.Timeline))
	default:
		return order(v.LSN, w.LSN)
	}
}

func order(a, b uint64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	default:
		return 0
	}
}

// NewerThan is short for v.Compare(w) > 0.
func (v Version) NewerThan(w Version) bool { return v.Compare(w) > 0 }

// Max returns the newer of the two.
func (v Version) Max(w Version) Version {
	if w.NewerThan(v) {
		return w
	}
	return v
}

// Next is the version that a write in the phase retain gives to a key whose
// current version is v: one more in the given era. It refuses a key that already
// belongs to a later era: somebody moved authority meanwhile.
func (v Version) Next(era uint32) (Version, error) {
	switch {
	// [retain-cas]: a return has taken the key to a later era.
	case v.Era > era:
		return Version{}, fmt.Errorf("version %s belongs to era %d, this route writes era %d", v, v.Era, era)
	case v.Era < era:
		return Version{Era: era, LSN: 1}, nil
	}
	next := Version{Era: era, Timeline: v.Timeline, LSN: v.LSN + 1}
	if next.LSN == 0 {
		if next.Timeline++; next.Timeline == 0 {
			return Version{}, fmt.Errorf("version %s is the last one of its era", v)
		}
	}
	return next, nil
}

// String returns the 32 digits; "" for none.
func (v Version) String() string {
	if v.IsZero() {
		return ""
	}
	return string(v.AppendText32(nil))
}

// AppendText32 appends the 32 digits, also for none (all zero).
//
// [version-era], [version-timeline]: in this order, of fixed width: stores compare the texts.
func (v Version) AppendText32(dst []byte) []byte {
	var raw [16]byte
	for i := range 4 {
		raw[i] = byte(v.Era >> (24 - 8*i))
		raw[4+i] = byte(v.Timeline >> (24 - 8*i))
	}
	for i := range 8 {
		raw[8+i] = byte(v.LSN >> (56 - 8*i))
	}
	return hex.AppendEncode(dst, raw[:])
}

// ParseVersion reads the text form; "" is none. Digits may be of either case.
func ParseVersion(s string) (Version, error) {
	if s == "" {
		return Version{}, nil
	}
	var raw [16]byte
	if len(s) != VersionDigits {
		return Version{}, fmt.Errorf("version %q: want %d hexadecimal digits", s, VersionDigits)
	}
	if _, err := hex.Decode(raw[:], []byte(s)); err != nil {
		return Version{}, fmt.Errorf("version %q: want %d hexadecimal digits", s, VersionDigits)
	}
	var v Version
	for i := range 4 {
		v.Era = v.Era<<8 | uint32(raw[i])
		v.Timeline = v.Timeline<<8 | uint32(raw[4+i])
	}
	for i := range 8 {
		v.LSN = v.LSN<<8 | uint64(raw[8+i])
	}
	return v, nil
}

// MarshalText implements encoding.TextMarshaler.
func (v Version) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (v *Version) UnmarshalText(text []byte) error {
	parsed, err := ParseVersion(string(text))
	if err != nil {
		return err
	}
	*v = parsed
	return nil
}
