package postgres

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/stranglerfig/migrator/record"
)

// maxDimensions is PostgreSQL's own limit.
const maxDimensions = 6

// appendArray converts an array's literal, {1,NULL,"a b"}, to a JSON array. Numbers
// keep every digit, JSON elements are embedded, bytes are base64, all others are
// strings. Some arrays have no JSON form that could be read back, and become one string
// with the literal: those whose bounds don't begin at one, and of JSON those that are
// nested, where the brackets of elements and of the array can't be distinguished, or
// have an element that an array could not hold: see record.FitsJSONArray.
func appendArray(dst []byte, f format, raw []byte) ([]byte, error) {
	nested := f.element == record.JSON && len(raw) > 1 && raw[1] == '{'
	if len(raw) > 0 && raw[0] == '[' || nested {
		return appendJSONString(dst, raw), nil
	}
	p := arrayParser{format: f, rest: raw}
	began := len(dst)
	dst, err := p.list(dst, 1)
	switch {
	case errors.Is(err, errUnembeddable):
		return appendJSONString(dst[:began], raw), nil
	case err == nil && len(p.rest) > 0:
		err = errArray
	}
	return dst, err
}

var (
	errArray        = errors.New("the server's text is not an array's literal")
	errUnembeddable = errors.New("an element has no place in a JSON array")
)

type arrayParser struct {
	format
	rest    []byte
	scratch []byte
}

func (p *arrayParser) take(c byte) bool {
	if len(p.rest) == 0 || p.rest[0] != c {
		return false
	}
	p.rest = p.rest[1:]
	return true
}

func (p *arrayParser) list(dst []byte, depth int) ([]byte, error) {
	if depth > maxDimensions || !p.take('{') {
		return dst, errArray
	}
	dst = append(dst, '[')
	if p.take('}') {
		return append(dst, ']'), nil
	}
	for {
		var err error
		if len(p.rest) > 0 && p.rest[0] == '{' {
			dst, err = p.list(dst, depth+1)
		} else {
			dst, err = p.element(dst)
		}
		if err != nil {
			return dst, err
		}
		if p.take('}') {
			return append(dst, ']'), nil
		}
		if !p.take(p.delimiter) {
			return dst, errArray
		}
		dst = append(dst, ',')
	}
}

func (p *arrayParser) element(dst []byte) ([]byte, error) {
	text, quoted, err := p.token()
	if err != nil {
		return dst, err
	}
	if !quoted && string(text) == "NULL" {
		return append(dst, "null"...), nil
	}
	kind := p.format.element
	switch kind {
	case record.Int, record.Decimal, record.Float, record.Float32:
		if last := text[len(text)-1]; last == 'N' || last == 'y' { // NaN, Infinity
			return appendJSONString(dst, text), nil
		}
		return append(dst, text...), nil
	case record.Bool:
		return appendScalar(dst, kind, text)
	case record.JSON:
		switch {
		case len(text) == 0:
			return dst, errArray
		case !record.FitsJSONArray(string(text)):
			return dst, errUnembeddable
		}
		return append(dst, text...), nil
	case record.Bytes:
		value, err := appendScalar(nil, kind, text)
		dst = append(dst, '"')
		dst = base64.StdEncoding.AppendEncode(dst, value)
		return append(dst, '"'), err
	default:
		value, err := appendScalar(nil, kind, text)
		return appendJSONString(dst, value), err
	}
}

// token reads one element's text. An unquoted one is never empty.
func (p *arrayParser) token() (text []byte, quoted bool, err error) {
	p.scratch = p.scratch[:0]
	if !p.take('"') {
		for i, c := range p.rest {
			switch c {
			case p.delimiter, '}':
				if i == 0 {
					return nil, false, errArray
				}
				text, p.rest = p.rest[:i], p.rest[i:]
				return text, false, nil
			case '"', '{', '\\':
				return nil, false, errArray
			}
		}
		return nil, false, errArray
	}
	for i := 0; i < len(p.rest); i++ {
		c := p.rest[i]
		switch {
		case c == '"':
			p.rest = p.rest[i+1:]
			if len(p.scratch) == 0 && p.numeric() {
				return nil, true, errArray
			}
			return p.scratch, true, nil
		case c == '\\' && i+1 < len(p.rest):
			i++
			p.scratch = append(p.scratch, p.rest[i])
		case c == '\\':
			return nil, true, errArray
		default:
			p.scratch = append(p.scratch, c)
		}
	}
	return nil, true, errArray
}

func (p *arrayParser) numeric() bool {
	switch p.format.element {
	case record.Int, record.Decimal, record.Float, record.Float32:
		return true
	}
	return false
}

// appendJSONString keeps the bytes as they are, but for what JSON must escape.
func appendJSONString(dst, text []byte) []byte {
	const digits = "0123456789abcdef"
	dst = append(dst, '"')
	for _, c := range text {
		switch {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c == '\n':
			dst = append(dst, `\n`...)
		case c < 0x20:
			dst = append(dst, '\\', 'u', '0', '0', digits[c>>4], digits[c&15])
		default:
			dst = append(dst, c)
		}
	}
	return append(dst, '"')
}

// arrayLiteral is appendArray's inverse.
func arrayLiteral(f format, text string) (string, error) {
	trimmed := bytes.TrimSpace([]byte(text))
	if !json.Valid(trimmed) || !utf8.ValidString(text) {
		return "", fmt.Errorf("an array's value is not JSON")
	}
	if trimmed[0] == '"' {
		var whole string
		err := json.Unmarshal(trimmed, &whole)
		return whole, err
	}
	var b strings.Builder
	if err := writeList(&b, f, trimmed, 1); err != nil {
		return "", err
	}
	return b.String(), nil
}

func writeList(b *strings.Builder, f format, text []byte, depth int) error {
	var elements []json.RawMessage
	if err := json.Unmarshal(text, &elements); err != nil || elements == nil {
		return fmt.Errorf("an array's value is not a JSON array")
	}
	if depth > maxDimensions {
		return fmt.Errorf("an array's value has more than %d dimensions", maxDimensions)
	}
	b.WriteByte('{')
	for i, element := range elements {
		if i > 0 {
			b.WriteByte(f.delimiter)
		}
		if err := writeElement(b, f, bytes.TrimSpace(element), depth); err != nil {
			return err
		}
	}
	b.WriteByte('}')
	return nil
}

func writeElement(b *strings.Builder, f format, text []byte, depth int) error {
	switch {
	case string(text) == "null":
		b.WriteString("NULL")
		return nil
	case f.element == record.JSON:
		writeQuoted(b, string(text))
		return nil
	case text[0] == '[':
		return writeList(b, f, text, depth+1)
	case text[0] != '"':
		writeQuoted(b, string(text))
		return nil
	}
	var value string
	if err := json.Unmarshal(text, &value); err != nil {
		return err
	}
	if f.element == record.Bytes {
		raw, err := base64.StdEncoding.DecodeString(value)
		if err != nil {
			return fmt.Errorf("an array's element of bytes is not base64")
		}
		value = string(raw)
	}
	writeQuoted(b, scalarInput(f.element, value))
	return nil
}

func writeQuoted(b *strings.Builder, text string) {
	b.WriteByte('"')
	for i := range len(text) {
		if text[i] == '"' || text[i] == '\\' {
			b.WriteByte('\\')
		}
		b.WriteByte(text[i])
	}
	b.WriteByte('"')
}
