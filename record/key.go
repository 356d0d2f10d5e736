package record

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Key names one record, in one canonical text that is the same in every process and language:
// the canonical texts of the key's columns, in the key's order, joined by commas. A comma, a
// per cent sign and every control character inside a column's text is written as % and two
// upper-case hexadecimal digits.
//
// So a key of one column is usually that column's text ("42"); a composite key reads "eu,42".
// The empty text is a valid key of one empty column.
type Key string

// MarshalJSON writes a key that is no UTF-8, of which JSON would lose bytes, as Go quotes it, with
// the quotes: "\"\\xff\"". So it writes one that begins with a quote.
func (k Key) MarshalJSON() ([]byte, error) {
	if utf8.ValidString(string(k)) && !strings.HasPrefix(string(k), `"`) {
		return json.Marshal(string(k))
	}
	return json.Marshal(strconv.Quote(string(k)))
}

// UnmarshalJSON reads what MarshalJSON writes.
func (k *Key) UnmarshalJSON(text []byte) error {
	var s string
	if err := json.Unmarshal(text, &s); err != nil {
		return err
	}
	if strings.HasPrefix(s, `"`) {
		if unquoted, err := strconv.Unquote(s); err == nil {
			s = unquoted
		}
	}
	*k = Key(s)
	return nil
}

const upperHex = "0123456789ABCDEF"

func escapes(c byte) bool { return c == ',' || c == '%' || c < 0x20 || c == 0x7f }

func plain(s string) bool {
	for i := range len(s) {
		if escapes(s[i]) {
			return false
		}
	}
	return true
}

// MakeKey builds a key from its columns' canonical texts.
func MakeKey(parts ...string) Key {
	if len(parts) == 1 && plain(parts[0]) {
		return Key(parts[0])
	}
	var b []byte
	for i, part := range parts {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendPart(b, part)
	}
	return Key(b)
}

func appendPart[T string | []byte](dst []byte, part T) []byte {
	for j := range len(part) {
		if c := part[j]; escapes(c) {
			dst = append(dst, '%', upperHex[c>>4], upperHex[c&15])
		} else {
			dst = append(dst, c)
		}
	}
	return dst
}

// Parts returns the columns' texts; it fails on a text that MakeKey can't have made.
func (k Key) Parts() ([]string, error) {
	parts := strings.Split(string(k), ",")
	for i, part := range parts {
		if plain(part) {
			continue
		}
		var b strings.Builder
		for j := 0; j < len(part); j++ {
			c := part[j]
			if c == '%' {
				if j+2 >= len(part) {
					return nil, fmt.Errorf("key %q: a %% must be followed by two hexadecimal digits", string(k))
				}
				high, low := strings.IndexByte(upperHex, part[j+1]), strings.IndexByte(upperHex, part[j+2])
				if high < 0 || low < 0 {
					return nil, fmt.Errorf("key %q: a %% must be followed by two upper-case hexadecimal digits", string(k))
				}
				c = byte(high<<4 | low)
				j += 2
				if !escapes(c) { // otherwise one record would have two keys
					return nil, fmt.Errorf("key %q: %%%02X must be written as the character itself", string(k), c)
				}
			} else if escapes(c) {
				return nil, fmt.Errorf("key %q: the byte %02x must be written as %%%02X", string(k), c, c)
			}
			b.WriteByte(c)
		}
		parts[i] = b.String()
	}
	return parts, nil
}
