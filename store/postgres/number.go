package postgres

import (
	"bytes"
	"strconv"
)

// number is a finite decimal: ±digits × 10^exponent, without zeros at both ends.
type number struct {
	negative bool
	digits   []byte // none: zero
	exponent int
}

// maxExponent is beyond all that PostgreSQL prints.
const maxExponent = 200_000

// parseNumber reads what PostgreSQL prints of a finite number.
func parseNumber(text []byte) (n number, ok bool) {
	if len(text) > 0 && (text[0] == '-' || text[0] == '+') {
		n.negative, text = text[0] == '-', text[1:]
	}
	if at := bytes.IndexAny(text, "eE"); at >= 0 {
		var err error
		if n.exponent, err = strconv.Atoi(string(text[at+1:])); err != nil || n.exponent > maxExponent || n.exponent < -maxExponent {
			return n, false
		}
		text = text[:at]
	}
	whole, part, _ := bytes.Cut(text, []byte("."))
	if len(whole)+len(part) == 0 {
		return n, false
	}
	all := append(bytes.Clone(whole), part...)
	for _, c := range all {
		if c < '0' || c > '9' {
			return n, false
		}
	}
	n.exponent -= len(part)
	all = bytes.TrimLeft(all, "0")
	n.digits = bytes.TrimRight(all, "0")
	n.exponent += len(all) - len(n.digits)
	if len(n.digits) == 0 {
		n.exponent, n.negative = 0, false
	}
	return n, true
}

func (n number) equal(m number) bool {
	return n.negative == m.negative && n.exponent == m.exponent && bytes.Equal(n.digits, m.digits)
}

// fits reports whether a numeric of the scale holds the number.
func (n number) fits(scale int) bool { return len(n.digits) == 0 || n.exponent >= -scale }

// append prints the number with at least so many digits behind the point.
func (n number) append(dst []byte, scale int) []byte {
	if n.negative {
		dst = append(dst, '-')
	}
	point := len(n.digits) + n.exponent // digits before it
	if point <= 0 {
		dst = append(dst, '0')
	}
	for i := range point {
		dst = append(dst, n.digit(i))
	}
	behind := max(scale, -n.exponent)
	if behind <= 0 {
		return dst
	}
	dst = append(dst, '.')
	for i := range behind {
		dst = append(dst, n.digit(point+i))
	}
	return dst
}

func (n number) digit(i int) byte {
	if i < 0 || i >= len(n.digits) {
		return '0'
	}
	return n.digits[i]
}

// isFloat reports whether a floating-point number of so many bits prints as the number.
func (n number) isFloat(text []byte, bits int) bool {
	f, err := strconv.ParseFloat(string(text), bits)
	if err != nil {
		return false
	}
	m, ok := parseNumber(strconv.AppendFloat(nil, f, 'g', -1, bits))
	return ok && m.equal(n)
}
