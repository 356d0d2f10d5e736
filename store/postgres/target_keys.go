package postgres

import (
	"strings"
	"unicode/utf8"

	"github.com/stranglerfig/migrator/record"
)

const upperHex = "0123456789ABCDEF"

// sideKey is a key's text in the table of versions, whose column holds valid UTF-8 alone: every
// other byte is written as % and two hexadecimal digits, as [record.Key] writes control characters.
// Two keys never have one text, since a key itself writes no byte above 7F so. Keys of valid UTF-8
// are their own texts, also in tables that earlier programs have filled.
func (t *Target) sideKey(key string) string {
	if !t.byteKeys || utf8.ValidString(key) {
		return key
	}
	var b strings.Builder
	for i := 0; i < len(key); {
		r, size := utf8.DecodeRuneInString(key[i:])
		if r == utf8.RuneError && size == 1 {
			b.Write([]byte{'%', upperHex[key[i]>>4], upperHex[key[i]&15]})
		} else {
			b.WriteString(key[i : i+size])
		}
		i += size
	}
	return b.String()
}

// fromSide is the key of a text in the table of versions.
func (t *Target) fromSide(text string) record.Key {
	if !t.byteKeys || !strings.Contains(text, "%") {
		return record.Key(text)
	}
	b := make([]byte, 0, len(text))
	for i := 0; i < len(text); i++ {
		if text[i] == '%' && i+2 < len(text) {
			high, low := strings.IndexByte(upperHex, text[i+1]), strings.IndexByte(upperHex, text[i+2])
			if high >= 8 && low >= 0 {
				b = append(b, byte(high<<4|low))
				i += 2
				continue
			}
		}
		b = append(b, text[i])
	}
	return record.Key(b)
}

func (t *Target) sideKeys(keys []record.Key) []string {
	texts := make([]string, len(keys))
	for i, key := range keys {
		texts[i] = t.sideKey(string(key))
	}
	return texts
}

// hasByteKeys reports whether a key's text may be other than UTF-8.
func (s *shape) hasByteKeys() bool {
	for _, i := range s.key {
		if f := s.columns[i].format; f.kind == record.Bytes || f.element == record.Bytes {
			return true
		}
	}
	return false
}
