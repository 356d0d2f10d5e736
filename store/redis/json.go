package redis

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// jsonCodec stores a record as one JSON document in a string. Its first member is
// the version, which the script reads without decoding the rest.
//
// Finite numbers keep exactly their canonical digits; infinities, NaN and numbers beyond a
// double's range are strings, and with target.numbers so are all that a double may not hold
// exactly; JSON and arrays are embedded unchanged, or kept as a text where not every parser reads
// them (see appendEmbedded); bytes are base64; all other kinds are strings. NULL is null, except in a field of kind json, where null is a value: there
// NULL is an absent member.
type jsonCodec struct {
	schema *record.Schema
	quoted []string       // names as members, with the colon
	index  map[string]int // by name in the target
	head   string         // {"_v":"
	texts  []bool         // of each field: its numbers are written as strings
}

// newJSONCodec makes a codec; numbers is the setting target.numbers.
func newJSONCodec(schema *record.Schema, names []string, reserved, numbers string) (*jsonCodec, error) {
	c := &jsonCodec{schema: schema, index: map[string]int{}, texts: make([]bool, len(names))}
	for i := range schema.Fields {
		c.texts[i] = numbers == numbersAsStrings && asStrings(&schema.Fields[i])
	}
	for i, name := range names {
		quoted, err := jsontext.AppendQuote(nil, name)
		if err != nil {
			return nil, fmt.Errorf("field %q: its name in the target is not valid UTF-8, which JSON needs", schema.Fields[i].Name)
		}
		c.quoted = append(c.quoted, string(quoted)+":")
		c.index[name] = i
	}
	quoted, err := jsontext.AppendQuote(nil, reserved)
	if err != nil {
		return nil, errors.New("target.version_field is not valid UTF-8, which JSON needs")
	}
	c.head = "{" + string(quoted) + `:"`
	return c, nil
}

func (c *jsonCodec) kind() string { return "string" }

func (c *jsonCodec) read(key string) []any { return []any{"get", key} }

func (c *jsonCodec) fields() []any { return nil }

func (c *jsonCodec) shared() string { return c.head }

func (c *jsonCodec) appendRecord(args []any, version []byte, r record.Record) ([]any, error) {
	doc, err := c.encode(nil, version, r)
	if err != nil {
		return nil, err
	}
	return append(args, doc), nil
}

func (c *jsonCodec) encode(dst []byte, version []byte, r record.Record) ([]byte, error) {
	dst = append(append(append(dst, c.head...), version...), '"')
	for i := range r {
		f := &c.schema.Fields[i]
		if r[i].State == record.Missing || r[i].State == record.Null && f.Kind == record.JSON {
			continue
		}
		dst = append(append(dst, ','), c.quoted[i]...)
		if r[i].State == record.Null {
			dst = append(dst, "null"...)
			continue
		}
		var err error
		if dst, err = appendJSON(dst, f.Kind, r[i].Text, c.texts[i]); err != nil {
			return nil, fmt.Errorf("field %q: %w", f.Name, err)
		}
	}
	return append(dst, '}'), nil
}

// anyJSON are the options for all JSON that legacy has: PostgreSQL's json keeps a name that appears twice, and lone surrogates.
var anyJSON = []jsontext.Options{jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true)}

// appendJSON appends a value of the kind. Its errors contain no value.
func appendJSON(dst []byte, kind record.Kind, text string, asString bool) ([]byte, error) {
	switch kind {
	case record.Bool:
		if text != "true" && text != "false" {
			return nil, errors.New("neither true nor false")
		}
		return append(dst, text...), nil
	case record.Int, record.Decimal, record.Float, record.Float32:
		switch number := isNumber(text); {
		case number && !asString && isDouble(text):
			return append(dst, text...), nil
		case !number && (!notFinite(text) || kind == record.Int):
			return nil, errors.New("not a number")
		}
	case record.JSON:
		return appendEmbedded(dst, text)
	case record.Array:
		if !asString {
			return appendEmbedded(dst, text)
		}
		if !jsontext.Value(text).IsValid(anyJSON...) {
			return nil, errNotJSON
		}
		return appendEmbedded(dst, string(quoteNumbers(nil, text)))
	case record.Bytes:
		dst = append(dst, '"')
		return append(base64.StdEncoding.AppendEncode(dst, []byte(text)), '"'), nil
	}
	dst, err := jsontext.AppendQuote(dst, text)
	if err != nil {
		return nil, errNotUTF8
	}
	return dst, nil
}

func notFinite(text string) bool { return text == "NaN" || text == "Infinity" || text == "-Infinity" }

// isNumber reports whether s is a number by the grammar of RFC 8259.
func isNumber(s string) bool {
	digit := func(from int) int {
		n := from
		for n < len(s) && s[n] >= '0' && s[n] <= '9' {
			n++
		}
		return n
	}
	at := 0
	if strings.HasPrefix(s, "-") {
		at = 1
	}
	end := digit(at)
	if end == at || s[at] == '0' && end > at+1 {
		return false
	}
	if end < len(s) && s[end] == '.' {
		from := end + 1
		if end = digit(from); end == from {
			return false
		}
	}
	if end < len(s) && (s[end] == 'e' || s[end] == 'E') {
		from := end + 1
		if from < len(s) && (s[from] == '+' || s[from] == '-') {
			from++
		}
		if end = digit(from); end == from {
			return false
		}
	}
	return end == len(s)
}

func (c *jsonCodec) decode(e *store.Entry, reply any) {
	e.Presence = store.Absent
	doc, ok := reply.(string)
	if !ok {
		return
	}
	version, ours := c.version(doc)
	r, err := c.fieldsOf(doc)
	switch {
	case ours && err == nil:
		e.Presence, e.Version, e.Record = store.Live, versionOf(version), r
	case ours:
		e.Presence, e.Version, e.Detail = store.Damaged, versionOf(version), err.Error()
	case err != nil:
		e.Presence, e.Detail = store.Unowned, "a string that is not a document of migrator: "+err.Error()
		e.Record = make(record.Record, len(c.quoted))
	default:
		e.Presence, e.Record = store.Unowned, r
		e.Detail = "a document that does not begin with " + c.head
	}
}

// version returns the digits at the place where the script reads them.
func (c *jsonCodec) version(doc string) (string, bool) {
	rest, ok := strings.CutPrefix(doc, c.head)
	if !ok || len(rest) <= record.VersionDigits || rest[record.VersionDigits] != '"' {
		return "", false
	}
	return rest[:record.VersionDigits], record.IsVersion(rest[:record.VersionDigits])
}

// fieldsOf reads the document's members that are fields, and skips the others. Its
// errors contain no value.
func (c *jsonCodec) fieldsOf(doc string) (record.Record, error) {
	r := make(record.Record, len(c.quoted))
	for i := range r {
		if c.schema.Fields[i].Kind == record.JSON {
			r[i] = record.NullValue
		}
	}
	seen := make([]bool, len(r))
	d := jsontext.NewDecoder(bytes.NewBufferString(doc), anyJSON...)
	notJSON := func() error { return fmt.Errorf("not JSON at byte %d", d.InputOffset()) }
	if open, err := d.ReadToken(); err != nil || open.Kind() != '{' {
		return nil, errors.New("not a JSON object")
	}
	for d.PeekKind() != '}' {
		member, err := d.ReadValue()
		if err != nil {
			return nil, notJSON()
		}
		name, err := jsontext.AppendUnquote(nil, member)
		if err != nil {
			return nil, notJSON()
		}
		from := d.InputOffset()
		value, err := d.ReadValue()
		if err != nil {
			return nil, notJSON()
		}
		i, ok := c.index[string(name)]
		if !ok {
			continue
		}
		f := &c.schema.Fields[i]
		if f.Kind == record.JSON {
			value = withBlanks(doc, from, d.InputOffset())
		}
		if seen[i] {
			return nil, fmt.Errorf("field %q appears twice", f.Name)
		}
		seen[i] = true
		if r[i], err = valueOf(f.Kind, value, c.texts[i]); err != nil {
			return nil, fmt.Errorf("field %q: %w", f.Name, err)
		}
	}
	if _, err := d.ReadToken(); err != nil {
		return nil, notJSON()
	}
	if _, err := d.ReadToken(); !errors.Is(err, io.EOF) {
		return nil, notJSON()
	}
	return r, nil
}

// withBlanks is the member's value that ends at to, behind its name, which ends at from, with the
// blanks around it: type json keeps them, and the value must come back as it was.
func withBlanks(doc string, from, to int64) jsontext.Value {
	const blanks = " \t\r\n"
	_, text, _ := strings.Cut(doc[from:to], ":")
	rest := doc[to:]
	return jsontext.Value(text + rest[:len(rest)-len(strings.TrimLeft(rest, blanks))])
}

// valueOf is the inverse of appendJSON.
func valueOf(kind record.Kind, v jsontext.Value, asString bool) (record.Value, error) {
	if v.Kind() == 'n' && kind != record.JSON {
		return record.NullValue, nil
	}
	switch kind {
	case record.JSON:
		text, ok := embedded(string(v))
		if !ok {
			return record.Value{}, errors.New("a kept text that is not JSON, or need not be kept so")
		}
		return record.TextValue(text), nil
	case record.Array:
		text, ok := embedded(string(v))
		if ok && asString {
			text, ok = unquoteNumbers(text)
		}
		if !ok || text == "" || text[0] != '[' && text[0] != '"' { // a string is an array that JSON can't express, such as [0:1]={5,6}
			return record.Value{}, errors.New("not an array")
		}
		return record.TextValue(text), nil
	case record.Bool:
		if v.Kind() != 't' && v.Kind() != 'f' {
			return record.Value{}, errors.New("neither true nor false")
		}
		return record.TextValue(string(v)), nil
	case record.Int, record.Decimal, record.Float, record.Float32:
		if v.Kind() == '0' {
			if asString {
				return record.Value{}, errors.New("a number that is not written as a string")
			}
			return record.TextValue(string(v)), nil
		}
		text, err := unquote(v)
		if number := isNumber(text); err == nil && (number && (asString || !isDouble(text)) || !number && notFinite(text) && kind != record.Int) {
			return record.TextValue(text), nil
		}
		return record.Value{}, errors.New("not a number")
	}
	text, err := unquote(v)
	if err != nil {
		return record.Value{}, err
	}
	if kind == record.Bytes {
		raw, err := base64.StdEncoding.Strict().DecodeString(text)
		if err != nil || strings.ContainsAny(text, "\r\n") {
			return record.Value{}, errors.New("not base64")
		}
		text = string(raw)
	}
	return record.TextValue(text), nil
}

func unquote(v jsontext.Value) (string, error) {
	if v.Kind() != '"' {
		return "", errors.New("not a string")
	}
	text, err := jsontext.AppendUnquote(nil, v)
	if err != nil {
		return "", errors.New("a string that is not valid UTF-8")
	}
	return string(text), nil
}
