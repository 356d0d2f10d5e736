package postgres

import (
	"encoding/binary"
	"encoding/hex"
	"math"
	"strconv"
)

// render appends the canonical text of a value's binary form.
type render func(dst, raw []byte) ([]byte, error)

// binary returns what to select for a column, prefix before its name, and how to
// render it.
func (c *column) binary(prefix string) (expression string, _ render) {
	name := prefix + quote(c.name)
	if !c.base.array && c.base.schema == "pg_catalog" {
		if r := binaryRenders[c.base.name]; r != nil {
			return name, r
		}
	}
	return c.printed(prefix), func(dst, raw []byte) ([]byte, error) {
		return appendCanonical(dst, c.format, raw)
	}
}

var binaryRenders = map[string]render{
	"bool": renderBool,
	"int2": renderInt, "int4": renderInt, "int8": renderInt,
	"numeric": renderNumeric,
	"text":    renderText, "varchar": renderText, "bpchar": renderText, "name": renderText, "json": renderText, "bytea": renderText,
	"jsonb": renderJSONB,
	"uuid":  renderUUID,
	"date":  renderDate, "timestamp": renderTimestamp, "timestamptz": renderTimestampTZ,
}

func renderText(dst, raw []byte) ([]byte, error) { return append(dst, raw...), nil }

func renderBool(dst, raw []byte) ([]byte, error) {
	if len(raw) != 1 {
		return dst, errTextForm
	}
	return strconv.AppendBool(dst, raw[0] != 0), nil
}

func renderInt(dst, raw []byte) ([]byte, error) {
	n, ok := readInt(raw)
	if !ok {
		return dst, errTextForm
	}
	return strconv.AppendInt(dst, n, 10), nil
}

func readInt(raw []byte) (int64, bool) {
	switch len(raw) {
	case 2:
		return int64(int16(binary.BigEndian.Uint16(raw))), true
	case 4:
		return int64(int32(binary.BigEndian.Uint32(raw))), true
	case 8:
		return int64(binary.BigEndian.Uint64(raw)), true
	default:
		return 0, false
	}
}

// renderJSONB removes the leading byte, the version of the format.
func renderJSONB(dst, raw []byte) ([]byte, error) {
	if len(raw) < 1 || raw[0] != 1 {
		return dst, errTextForm
	}
	return append(dst, raw[1:]...), nil
}

func renderUUID(dst, raw []byte) ([]byte, error) {
	if len(raw) != 16 {
		return dst, errTextForm
	}
	from := 0
	for _, to := range []int{4, 6, 8, 10, 16} {
		if from > 0 {
			dst = append(dst, '-')
		}
		dst = hex.AppendEncode(dst, raw[from:to])
		from = to
	}
	return dst, nil
}

// The signs of a numeric.
const (
	numericNegative = 0x4000
	numericNaN      = 0xC000
	numericInfinity = 0xD000
	numericMinus    = 0xF000
)

// renderNumeric prints base 10,000 digits, the first of which has the weight
// 10,000^weight, with exactly scale digits behind the point.
func renderNumeric(dst, raw []byte) ([]byte, error) {
	if len(raw) < 8 {
		return dst, errTextForm
	}
	count := int(binary.BigEndian.Uint16(raw))
	weight := int(int16(binary.BigEndian.Uint16(raw[2:])))
	sign, scale := binary.BigEndian.Uint16(raw[4:]), int(binary.BigEndian.Uint16(raw[6:]))
	digits := raw[8:]
	if len(digits) != 2*count {
		return dst, errTextForm
	}
	switch sign {
	case numericNaN:
		return append(dst, "NaN"...), nil
	case numericInfinity:
		return append(dst, "Infinity"...), nil
	case numericMinus:
		return append(dst, "-Infinity"...), nil
	case numericNegative:
		dst = append(dst, '-')
	case 0:
	default:
		return dst, errTextForm
	}
	group := func(i int) uint16 {
		if i < 0 || i >= count {
			return 0
		}
		return binary.BigEndian.Uint16(digits[2*i:])
	}
	if weight < 0 {
		dst = append(dst, '0')
	} else {
		dst = strconv.AppendUint(dst, uint64(group(0)), 10)
		for i := 1; i <= weight; i++ {
			dst = appendGroup(dst, group(i))
		}
	}
	if scale == 0 {
		return dst, nil
	}
	dst = append(dst, '.')
	end := len(dst) + scale
	for i := weight + 1; len(dst) < end; i++ {
		dst = appendGroup(dst, group(i))
	}
	return dst[:end], nil
}

func appendGroup(dst []byte, g uint16) []byte {
	return append(dst, byte('0'+g/1000), byte('0'+g/100%10), byte('0'+g/10%10), byte('0'+g%10))
}

// PostgreSQL counts from 2000-01-01.
const (
	epochDays     = 10957 // from 1970-01-01
	microsOfDay   = 24 * 60 * 60 * 1_000_000
	endOfDays     = math.MaxInt32
	beginOfDays   = math.MinInt32
	endOfTimes    = math.MaxInt64
	beginOfTimes  = math.MinInt64
	daysOf400     = 146097
	marchEraShift = 719468 // days from 0000-03-01 to 1970-01-01
)

func renderDate(dst, raw []byte) ([]byte, error) {
	days, ok := readInt(raw)
	if !ok || len(raw) != 4 {
		return dst, errTextForm
	}
	switch days {
	case endOfDays:
		return append(dst, "infinity"...), nil
	case beginOfDays:
		return append(dst, "-infinity"...), nil
	}
	dst, bc := appendDay(dst, days)
	return appendEra(dst, bc), nil
}

func renderTimestamp(dst, raw []byte) ([]byte, error)   { return renderMoment(dst, raw, false) }
func renderTimestampTZ(dst, raw []byte) ([]byte, error) { return renderMoment(dst, raw, true) }

func renderMoment(dst, raw []byte, zoned bool) ([]byte, error) {
	micros, ok := readInt(raw)
	if !ok || len(raw) != 8 {
		return dst, errTextForm
	}
	switch micros {
	case endOfTimes:
		return append(dst, "infinity"...), nil
	case beginOfTimes:
		return append(dst, "-infinity"...), nil
	}
	days, clock := micros/microsOfDay, micros%microsOfDay
	if clock < 0 {
		days, clock = days-1, clock+microsOfDay
	}
	dst, bc := appendDay(dst, days)
	seconds, fraction := clock/1_000_000, clock%1_000_000
	dst = append(dst, 'T')
	dst = append(appendTwo(dst, seconds/3600), ':')
	dst = append(appendTwo(dst, seconds/60%60), ':')
	dst = appendTwo(dst, seconds%60)
	if fraction > 0 {
		dst = append(dst, '.')
		for place := int64(100_000); fraction > 0; place /= 10 {
			dst = append(dst, byte('0'+fraction/place))
			fraction %= place
		}
	}
	if zoned {
		dst = append(dst, 'Z')
	}
	return appendEra(dst, bc), nil
}

func appendTwo(dst []byte, n int64) []byte { return append(dst, byte('0'+n/10), byte('0'+n%10)) }

func appendEra(dst []byte, bc bool) []byte {
	if bc {
		return append(dst, suffixBC...)
	}
	return dst
}

// appendDay prints the Gregorian date of a day counted from 2000-01-01; the year
// before 1 is 1 BC. Years are counted from March, so that the leap day is its last.
func appendDay(dst []byte, days int64) (_ []byte, bc bool) {
	days += epochDays + marchEraShift
	era := days / daysOf400
	if days < 0 {
		era = (days - daysOf400 + 1) / daysOf400
	}
	ofEra := days - era*daysOf400
	ofYears := (ofEra - ofEra/1460 + ofEra/36524 - ofEra/146096) / 365
	day := ofEra - (365*ofYears + ofYears/4 - ofYears/100)
	month := (5*day + 2) / 153
	day -= (153*month+2)/5 - 1
	year := ofYears + era*400
	if month += 3; month > 12 {
		month -= 12
		year++
	}
	if year <= 0 {
		year, bc = 1-year, true
	}
	for place := int64(1000); place > year && place > 1; place /= 10 {
		dst = append(dst, '0')
	}
	dst = append(strconv.AppendInt(dst, year, 10), '-')
	dst = append(appendTwo(dst, month), '-')
	return appendTwo(dst, day), bc
}
