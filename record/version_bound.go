package record

import "bytes"

// Ceiling tells which versions, as the texts that stores keep, are not newer than
// one. It remembers the last: neighbours mostly have the same. Not safe for
// concurrent use.
type VersionBound struct {
	highest []byte
	last    []byte // that was covered
}

// NewCeiling makes one at a version.
func NewVersionBound(highest Version) VersionBound {
	return VersionBound{highest: highest.AppendText32(nil)}
}

// Covers is false for what is no version, too.
func (c *VersionBound) Includes(text []byte) bool {
	if len(c.last) > 0 && bytes.Equal(text, c.last) {
		return true
	}
	if !IsVersion(text) || bytes.Compare(text, c.highest) > 0 {
		return false
	}
	c.last = append(c.last[:0], text...)
	return true
}

// IsVersion tells that a text is a version's as stores keep it: 32 digits, lower
// case alone.
func IsVersion[T string | []byte](text T) bool {
	if len(text) != VersionDigits {
		return false
	}
	for i := range len(text) {
		if c := text[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
