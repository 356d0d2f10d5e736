package postgres

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"math"
	"strconv"
	"strings"

	"github.com/stranglerfig/migrator/record"
)

// encode appends the binary form of a value's canonical text, as the type's receive
// function reads it; false if render does not produce the text.
type encode func(dst, text []byte) ([]byte, bool)

// encoder returns nil if there is no encoder for the column's type, or if the values
// to write are of another kind.
func (c *column) encoder(kind record.Kind) encode {
	if c.base.array || c.base.schema != "pg_catalog" || c.format.kind != kind {
		return nil
	}
	return encoders[c.base.name]
}

var encoders = map[string]encode{
	"bool": encodeBool,
	"int2": encodeInt(2), "int4": encodeInt(4), "int8": encodeInt(8),
	"numeric": encodeNumeric,
	"float4":  encodeFloat(4), "float8": encodeFloat(8),
	"text": encodeText, "varchar": encodeText, "bpchar": encodeText, "name": encodeText, "json": encodeText, "bytea": encodeText,
	"jsonb": encodeJSONB,
	"uuid":  encodeUUID,
	"date":  encodeDate, "timestamp": encodeTimestamp, "timestamptz": encodeTimestampTZ,
}

func encodeText(dst, text []byte) ([]byte, bool) { return append(dst, text...), true }

func encodeJSONB(dst, text []byte) ([]byte, bool) { return append(append(dst, 1), text...), true }

func encodeBool(dst, text []byte) ([]byte, bool) {
	switch string(text) {
	case "true":
		return append(dst, 1), true
	case "false":
		return append(dst, 0), true
	}
	return dst, false
}

func encodeInt(size int) encode {
	return func(dst, text []byte) ([]byte, bool) {
		n, err := strconv.ParseInt(string(text), 10, 8*size)
		switch size {
		case 2:
			dst = binary.BigEndian.AppendUint16(dst, uint16(n))
		case 4:
			dst = binary.BigEndian.AppendUint32(dst, uint32(n))
		default:
			dst = binary.BigEndian.AppendUint64(dst, uint64(n))
		}
		return dst, err == nil
	}
}

func encodeFloat(size int) encode {
	return func(dst, text []byte) ([]byte, bool) {
		n, err := strconv.ParseFloat(string(text), 8*size)
		if math.IsNaN(n) { // there are many NaNs; the server uses this one
			n = math.Float64frombits(0x7ff8 << 48)
		}
		if size == 4 {
			return binary.BigEndian.AppendUint32(dst, math.Float32bits(float32(n))), err == nil
		}
		return binary.BigEndian.AppendUint64(dst, math.Float64bits(n)), err == nil
	}
}

func encodeUUID(dst, text []byte) ([]byte, bool) {
	if len(text) != 36 || text[8] != '-' || text[13] != '-' || text[18] != '-' || text[23] != '-' {
		return dst, false
	}
	for _, part := range [][]byte{text[:8], text[9:13], text[14:18], text[19:23], text[24:]} {
		var err error
		if dst, err = hex.AppendDecode(dst, part); err != nil {
			return dst, false
		}
	}
	return dst, true
}

// encodeNumeric is renderNumeric's inverse: groups of four digits, counted from the point.
func encodeNumeric(dst, text []byte) ([]byte, bool) {
	switch string(text) {
	case "NaN":
		return append(dst, 0, 0, 0, 0, numericNaN>>8, 0, 0, 0), true
	case "Infinity":
		return append(dst, 0, 0, 0, 0, numericInfinity>>8, 0, 0, 0), true
	case "-Infinity":
		return append(dst, 0, 0, 0, 0, numericMinus>>8, 0, 0, 0), true
	}
	digits, negative := bytes.CutPrefix(text, []byte("-"))
	whole, fraction, point := bytes.Cut(digits, []byte("."))
	before, behind := (len(whole)+3)/4, (len(fraction)+3)/4 // groups
	if len(whole) == 0 || point && len(fraction) == 0 || before+behind > math.MaxInt16 || len(fraction) > math.MaxInt16 {
		return dst, false
	}
	sign := uint16(0)
	if negative {
		sign = numericNegative
	}
	dst = binary.BigEndian.AppendUint16(dst, uint16(before+behind))
	dst = binary.BigEndian.AppendUint16(dst, uint16(before-1))
	dst = binary.BigEndian.AppendUint16(dst, sign)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(fraction)))
	group, ok := uint16(0), true
	add := func(c byte, last bool) {
		ok = ok && '0' <= c && c <= '9'
		if group = group*10 + uint16(c-'0'); last {
			dst, group = binary.BigEndian.AppendUint16(dst, group), 0
		}
	}
	for i, c := range whole {
		add(c, (len(whole)-i)%4 == 1)
	}
	for i, c := range fraction {
		add(c, i%4 == 3)
	}
	for i := len(fraction); i%4 != 0; i++ {
		add('0', i%4 == 3)
	}
	return dst, ok
}

func encodeDate(dst, text []byte) ([]byte, bool) {
	days, ok := int64(0), true
	switch string(text) {
	case "infinity":
		days = endOfDays
	case "-infinity":
		days = beginOfDays
	default:
		day, bc := bytes.CutSuffix(text, suffixBC)
		days, ok = parseDay(day, bc)
	}
	return binary.BigEndian.AppendUint32(dst, uint32(days)), ok && days == int64(int32(days))
}

func encodeTimestamp(dst, text []byte) ([]byte, bool)   { return encodeMoment(dst, text, false) }
func encodeTimestampTZ(dst, text []byte) ([]byte, bool) { return encodeMoment(dst, text, true) }

func encodeMoment(dst, text []byte, zoned bool) ([]byte, bool) {
	micros, ok := int64(0), true
	switch string(text) {
	case "infinity":
		micros = endOfTimes
	case "-infinity":
		micros = beginOfTimes
	default:
		micros, ok = parseMoment(text, zoned)
	}
	return binary.BigEndian.AppendUint64(dst, uint64(micros)), ok
}

const maxDays = math.MaxInt64/microsOfDay - 1

// parseMoment reads what renderMoment prints: microseconds since 2000-01-01.
func parseMoment(text []byte, zoned bool) (int64, bool) {
	text, bc := bytes.CutSuffix(text, suffixBC)
	if zoned {
		var ok bool
		if text, ok = bytes.CutSuffix(text, []byte("Z")); !ok {
			return 0, false
		}
	}
	at := bytes.IndexByte(text, 'T')
	if at < 0 {
		return 0, false
	}
	days, ok := parseDay(text[:at], bc)
	clock, fraction, _ := strings.Cut(string(text[at+1:]), ".")
	if !ok || days < -maxDays || days > maxDays || len(clock) != len("15:04:05") || clock[2] != ':' || clock[5] != ':' || len(fraction) > 6 {
		return 0, false
	}
	var micros int64
	for _, p := range []struct {
		digits string
		limit  int64
	}{{clock[:2], 23}, {clock[3:5], 59}, {clock[6:], 59}, {(fraction + "000000")[:6], 999_999}} {
		n, ok := parseDigits(p.digits)
		if !ok || n > p.limit {
			return 0, false
		}
		micros = micros*(p.limit+1) + n
	}
	return days*microsOfDay + micros, true
}

// parseDay is appendDay's inverse: days since 2000-01-01.
func parseDay(text []byte, bc bool) (int64, bool) {
	n := len(text)
	if n < len("2006-01-02") || n > len("5874897-12-31") || text[n-3] != '-' || text[n-6] != '-' {
		return 0, false
	}
	year, ok1 := parseDigits(string(text[:n-6]))
	month, ok2 := parseDigits(string(text[n-5 : n-3]))
	day, ok3 := parseDigits(string(text[n-2:]))
	if bc {
		year = 1 - year
	}
	if !ok1 || !ok2 || !ok3 || month < 1 || month > 12 || day < 1 || day > daysOf(year, month) {
		return 0, false
	}
	if month <= 2 {
		month, year = month+12, year-1
	}
	era := year / 400
	if year < 0 {
		era = (year - 399) / 400
	}
	ofEra := year - era*400
	days := (153*(month-3)+2)/5 + day - 1
	days += era*daysOf400 + ofEra*365 + ofEra/4 - ofEra/100
	return days - epochDays - marchEraShift, true
}

func daysOf(year, month int64) int64 {
	switch {
	case month == 2 && (year%4 != 0 || year%100 == 0 && year%400 != 0):
		return 28
	case month == 2:
		return 29
	case month == 4 || month == 6 || month == 9 || month == 11:
		return 30
	default:
		return 31
	}
}

func parseDigits(text string) (n int64, ok bool) {
	for i := range len(text) {
		if text[i] < '0' || text[i] > '9' {
			return 0, false
		}
		n = n*10 + int64(text[i]-'0')
	}
	return n, len(text) > 0
}
