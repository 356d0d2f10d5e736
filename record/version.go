package record

import (
	"encoding/hex"
	"fmt"
	"math"
)

// Version orders the states of one key: a later state has the greater version. The zero
// Version means "none": it is older than every version that a store gives. Versions are
// comparable by ==.
//
// A version belongs to an era, which the fence counts: moving authority between the stores
// begins a new era, and all versions of an era are older than those of the next. Within an era
// it has a position that only the store that gave it can interpret (for PostgreSQL see
// store/postgres). In the phase retain the target numbers its own writes: FirstOf the fence's
// era, then Next.
//
// The text form is 8 + 24 lower-case hexadecimal digits, era and position, so that comparing
// the texts compares the versions.
type Version struct {
	era  uint32
	high uint32
	low  uint64
}

// MakeVersion is for stores: it returns a version in an era, at a position of 96 bits.
func MakeVersion(era, high uint32, low uint64) Version {
	return Version{era: era, high: high, low: low}
}

// FirstOf returns the first version of an era: older than every other version that a store
// gives in it.
func FirstOf(era uint32) Version { return Version{era: era, low: 1} }

// Era returns the version's era.
func (v Version) Era() uint32 { return v.era }

// InEra returns the version at the same position in another era.
func (v Version) InEra(era uint32) Version {
	v.era = era
	return v
}

// Position is for the store that gave the version; it has no meaning to others.
func (v Version) Position() (high uint32, low uint64) { return v.high, v.low }

// VersionDigits is the length of a version's text form, in bytes.
const VersionDigits = 32

// MaxVersion is not older than any version.
var MaxVersion = Version{math.MaxUint32, math.MaxUint32, math.MaxUint64}

// IsZero reports whether v is "none".
func (v Version) IsZero() bool { return v == Version{} }

// Compare is negative when v is older than w, zero when they are the same state,
// positive when v is newer.
func (v Version) Compare(w Version) int {
	switch {
	// [version-era], [version-timeline]: the LSN decides last. A promoted standby begins at a lower
	// one, and so does a server after a restore.
	case v.era != w.era:
		return order(uint64(v.era), uint64(w.era))
	case v.high != w.high:
		return order(uint64(v.high), uint64(w.high))
	default:
		return order(v.low, w.low)
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

// NewerThan reports whether v is newer than w.
func (v Version) NewerThan(w Version) bool { return v.Compare(w) > 0 }

// Max returns the newer of the two.
func (v Version) Max(w Version) Version {
	if w.NewerThan(v) {
		return w
	}
	return v
}

// Next returns the version that a write in the phase retain gives to a key whose current
// version is v: one more in the given era. It refuses a key that already belongs to a later
// era, because authority has moved since the write began.
func (v Version) Next(era uint32) (Version, error) {
	switch {
	// [retain-cas]: a return has taken the key to a later era.
	case v.era > era:
		return Version{}, fmt.Errorf("version %s belongs to era %d, this route writes era %d", v, v.era, era)
	case v.era < era:
		return FirstOf(era), nil
	}
	next := Version{era, v.high, v.low + 1}
	if next.low == 0 {
		if next.high++; next.high == 0 {
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
		raw[i] = byte(v.era >> (24 - 8*i))
		raw[4+i] = byte(v.high >> (24 - 8*i))
	}
	for i := range 8 {
		raw[8+i] = byte(v.low >> (56 - 8*i))
	}
	return hex.AppendEncode(dst, raw[:])
}

// Scan implements sql.Scanner, for the version in a statement's RETURNING, with pgx and with
// database/sql. NULL is none.
func (v *Version) Scan(src any) (err error) {
	switch src := src.(type) {
	case string:
		*v, err = ParseVersion(src)
	case []byte:
		*v, err = ParseVersion(string(src))
	case nil:
		*v = Version{}
	default:
		err = fmt.Errorf("a version is text, not a %T: take it from the legacy store's version expression", src)
	}
	return err
}

// ParseVersion parses the text form; "" is none. Digits may be of either case.
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
		v.era = v.era<<8 | uint32(raw[i])
		v.high = v.high<<8 | uint32(raw[4+i])
	}
	for i := range 8 {
		v.low = v.low<<8 | uint64(raw[8+i])
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
