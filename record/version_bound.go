package record

import "bytes"

// VersionBound checks which versions, in the text form that stores keep, are not newer than a
// highest version. It caches the last included text, since neighbours usually have the same
// version. Not safe for concurrent use.
type VersionBound struct {
	highest []byte
	last    []byte // the last included text
}

// NewVersionBound returns a VersionBound with that highest version.
func NewVersionBound(highest Version) VersionBound {
	return VersionBound{highest: highest.AppendText32(nil)}
}

// Includes reports whether text is a version that is not newer. It is false for a text that is
// no version.
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

// IsVersion reports whether text is a version as stores keep it: 32 hexadecimal digits in
// lower case.
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
