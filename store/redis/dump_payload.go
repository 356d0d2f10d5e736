package redis

import (
	"encoding/binary"
	"math"
	"sync"

	"github.com/stranglerfig/migrator/record"
)

// The payload of DUMP and RESTORE for a small hash: its type, the string that encodes
// it (a listpack), the version of the RDB format, and a checksum. A server reads all
// RDB versions up to its own; packedFormat is the one of Redis 7.
const (
	packedType   = 16
	packedFormat = 10
	packedHead   = 1 + 5 + 6 // the type; a length of 32 bits; the string's own length and count
)

// packedLimit limits a payload, in bytes. With default settings Redis keeps longer
// hashes in this encoding too, but none with a value of more than 64 bytes.
const packedLimit = 4 << 10

// packer makes the payloads of hashes that share a version and the fields' names.
type packer struct {
	reserved []byte // the version's field, packed
	version  []byte // packed
	names    [][]byte
	dst      []byte
}

func newPacker(names []string, reserved string, version []byte) *packer {
	p := &packer{reserved: appendPacked(nil, reserved), version: appendPacked(nil, string(version))}
	for _, name := range names {
		p.names = append(p.names, appendPacked(nil, name))
	}
	return p
}

// payload returns a hash's payload, valid until the next call; false if it is too long.
func (p *packer) payload(r record.Record) ([]byte, bool) {
	dst := append(append(p.dst[:0], packedType, 0x80), make([]byte, packedHead-2)...)
	dst = append(append(dst, p.reserved...), p.version...)
	entries := uint16(2)
	for i := range r {
		if r[i].State != record.Present {
			continue
		}
		if len(dst)+len(p.names[i])+len(r[i].Text) > packedLimit {
			return nil, false
		}
		dst = appendPacked(append(dst, p.names[i]...), r[i].Text)
		entries += 2
	}
	dst = append(dst, 0xff)
	size := uint32(len(dst) - 6)
	binary.BigEndian.PutUint32(dst[2:], size)
	binary.LittleEndian.PutUint32(dst[6:], size)
	binary.LittleEndian.PutUint16(dst[10:], entries)
	dst = binary.LittleEndian.AppendUint16(dst, packedFormat)
	p.dst = binary.LittleEndian.AppendUint64(dst, checksum(dst))
	return p.dst, true
}

// appendPacked appends a listpack entry: its encoding, its value, and the length of
// both, which is read backwards.
func appendPacked(dst []byte, text string) []byte {
	from := len(dst)
	dst = appendValue(dst, text)
	switch n := len(dst) - from; {
	case n < 1<<7:
		return append(dst, byte(n))
	case n < 1<<14:
		return append(dst, byte(n>>7), byte(n)|0x80)
	default: // not within packedLimit
		return append(dst, byte(n>>14), byte(n>>7)|0x80, byte(n)|0x80)
	}
}

// appendValue appends a value. The text of an integer becomes an integer, as the
// server encodes it.
func appendValue(dst []byte, text string) []byte {
	if n, ok := integer(text); ok {
		switch {
		case n >= 0 && n < 1<<7:
			return append(dst, byte(n))
		case n >= -1<<12 && n < 1<<12:
			return append(dst, 0xc0|byte(n>>8)&0x1f, byte(n))
		case n >= -1<<15 && n < 1<<15:
			return append(dst, 0xf1, byte(n), byte(n>>8))
		case n >= -1<<23 && n < 1<<23:
			return append(dst, 0xf2, byte(n), byte(n>>8), byte(n>>16))
		case n >= -1<<31 && n < 1<<31:
			return binary.LittleEndian.AppendUint32(append(dst, 0xf3), uint32(n))
		default:
			return binary.LittleEndian.AppendUint64(append(dst, 0xf4), uint64(n))
		}
	}
	switch n := len(text); {
	case n < 1<<6:
		dst = append(dst, 0x80|byte(n))
	case n < 1<<12:
		dst = append(dst, 0xe0|byte(n>>8), byte(n))
	default: // not within packedLimit
		dst = binary.LittleEndian.AppendUint32(append(dst, 0xf0), uint32(n))
	}
	return append(dst, text...)
}

// integer parses a text that is the canonical text of an integer.
func integer(text string) (int64, bool) {
	digits, negative := text, false
	if len(digits) > 0 && digits[0] == '-' {
		digits, negative = digits[1:], true
	}
	if len(digits) == 0 || len(digits) > 19 || digits[0] == '0' && len(text) > 1 {
		return 0, false
	}
	n := uint64(0)
	for i := range len(digits) {
		c := digits[i] - '0'
		if c > 9 {
			return 0, false
		}
		n = 10*n + uint64(c)
	}
	switch {
	case !negative:
		return int64(n), n <= math.MaxInt64
	default:
		return -int64(n), n <= 1<<63
	}
}

// checksumTables are the tables of Redis's CRC-64 for eight bytes at a time. The
// standard library processes single bytes for a polynomial that it does not know.
var checksumTables = sync.OnceValue(func() *[8][256]uint64 {
	const polynomial = 0x95ac9329ac4bc9b5
	t := new([8][256]uint64)
	for i := range t[0] {
		crc := uint64(i)
		for range 8 {
			crc = crc>>1 ^ polynomial&-(crc&1)
		}
		t[0][i] = crc
	}
	for i := range t[0] {
		for k := 1; k < len(t); k++ {
			t[k][i] = t[0][byte(t[k-1][i])] ^ t[k-1][i]>>8
		}
	}
	return t
})

func checksum(p []byte) (crc uint64) {
	t := checksumTables()
	for ; len(p) >= 8; p = p[8:] {
		crc ^= binary.LittleEndian.Uint64(p)
		crc = t[7][byte(crc)] ^ t[6][byte(crc>>8)] ^ t[5][byte(crc>>16)] ^ t[4][byte(crc>>24)] ^
			t[3][byte(crc>>32)] ^ t[2][byte(crc>>40)] ^ t[1][byte(crc>>48)] ^ t[0][byte(crc>>56)]
	}
	for _, b := range p {
		crc = t[0][byte(crc)^b] ^ crc>>8
	}
	return crc
}
