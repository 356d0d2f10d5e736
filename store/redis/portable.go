package redis

import (
	"errors"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/stranglerfig/migrator/internal/hint"
)

// maxDepth is how deep a document is nested at most: what several parsers read by default.
const maxDepth = 64

// A JSON value that not every parser reads is kept as the text that legacy has, in an object of
// this one member. A value that looks like one is kept so too.
const (
	textOpen  = `{"_text":`
	textClose = '}'
)

var errNotJSON = errors.New("not valid JSON, or nested deeper than 10,000")

var errNotUTF8 = hint.Errorf(hint.Hint{Text: "set target.format: hash"}, "not valid UTF-8, which JSON can't hold")

// appendEmbedded appends a JSON text inside a document.
func appendEmbedded(dst []byte, text string) ([]byte, error) {
	if isPortable(text) && !isKeptText(text) {
		return append(dst, text...), nil
	}
	if !utf8.ValidString(text) || !jsontext.Value(text).IsValid(anyJSON...) {
		return nil, errNotJSON
	}
	dst, err := jsontext.AppendQuote(append(dst, textOpen...), text)
	if err != nil {
		return nil, errNotUTF8
	}
	return append(dst, textClose), nil
}

// embedded is the inverse of appendEmbedded; false: appendEmbedded does not write v.
func embedded(v string) (text string, ok bool) {
	if !isKeptText(v) {
		return v, true
	}
	quoted := v[len(textOpen) : len(v)-1]
	raw, err := jsontext.AppendUnquote(nil, quoted)
	if err != nil {
		return "", false
	}
	text = string(raw)
	again, err := appendEmbedded(nil, text)
	return text, err == nil && string(again) == v
}

// isKeptText reports whether v is an object of the one member _text, a string, written as
// appendEmbedded does.
func isKeptText(v string) bool {
	rest, ok := strings.CutPrefix(v, textOpen)
	if !ok || len(rest) < 3 || rest[0] != '"' || rest[len(rest)-1] != textClose {
		return false
	}
	return jsontext.Value(rest[:len(rest)-1]).Kind() == '"' && jsontext.Value(rest[:len(rest)-1]).IsValid(anyJSON...)
}

// isPortable reports whether every parser reads the JSON text, which is valid by its grammar: no
// name comes twice in an object, no half of a surrogate pair, no U+0000, no number beyond what a
// double holds, and not too deep.
func isPortable(text string) bool {
	return jsontext.Value(text).IsValid() && isSimple(text)
}

func isSimple(text string) bool {
	depth := 1 // of the record's own object
	for i := 0; i < len(text); {
		switch c := text[i]; {
		case c == '{' || c == '[':
			if depth++; depth > maxDepth {
				return false
			}
			i++
		case c == '}' || c == ']':
			depth--
			i++
		case c == '"':
			end := endOfString(text, i)
			if strings.Contains(text[i:end], `\u0000`) {
				return false // or an escaped backslash before u0000, which is as well kept as text
			}
			i = end
		case c == '-' || c >= '0' && c <= '9':
			end := endOfNumber(text, i)
			if !isDouble(text[i:end]) {
				return false
			}
			i = end
		default:
			i++
		}
	}
	return true
}

// endOfString returns the position behind the string that begins at from.
func endOfString(text string, from int) int {
	for i := from + 1; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(text)
}

func endOfNumber(text string, from int) int {
	for i := from; i < len(text); i++ {
		if strings.IndexByte("+-.0123456789eE", text[i]) < 0 {
			return i
		}
	}
	return len(text)
}

// isDouble reports whether a number is within the range of a double.
func isDouble(number string) bool {
	if len(number) < 300 && !strings.ContainsAny(number, "eE") {
		return true
	}
	f, err := strconv.ParseFloat(number, 64)
	return (err == nil || errors.Is(err, strconv.ErrRange)) && !math.IsInf(f, 0)
}

// quoteNumbers writes an array's numbers as strings.
func quoteNumbers(dst []byte, text string) []byte {
	for i := 0; i < len(text); {
		switch c := text[i]; {
		case c == '"':
			end := endOfString(text, i)
			dst = append(dst, text[i:end]...)
			i = end
		case c == '-' || c >= '0' && c <= '9':
			end := endOfNumber(text, i)
			dst = append(append(append(dst, '"'), text[i:end]...), '"')
			i = end
		default:
			dst = append(dst, c)
			i++
		}
	}
	return dst
}

// unquoteNumbers is the inverse of quoteNumbers; false: quoteNumbers does not write the text.
func unquoteNumbers(text string) (string, bool) {
	if strings.HasPrefix(text, `"`) { // an array that JSON can't express
		return text, true
	}
	var b strings.Builder
	for i := 0; i < len(text); {
		switch c := text[i]; {
		case c == '"':
			end := endOfString(text, i)
			if s := text[i+1 : end-1]; isNumber(s) {
				b.WriteString(s)
			} else {
				b.WriteString(text[i:end])
			}
			i = end
		case c == '-' || c >= '0' && c <= '9':
			return "", false
		default:
			b.WriteByte(c)
			i++
		}
	}
	return b.String(), true
}
