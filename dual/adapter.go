package dual

import (
	"bytes"
	"database/sql"
	"database/sql/driver"
	"encoding"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/stranglerfig/migrator/record"
)

// adapter converts one Go type's values to a field's canonical texts and back. Both
// functions get a pointer to the Go value. Their errors contain no values.
type adapter struct {
	encode func(p any) (record.Value, error)
	decode func(p any, v record.Value) error
}

// adapterOf fails unless T holds every value of the field, and every value of T has one
// canonical text: otherwise the application would write other texts than the backfill.
func adapterOf(t reflect.Type, f record.Field, asJSON bool) (adapter, error) {
	if asJSON {
		return jsonAdapter(t, f)
	}
	if t.Kind() == reflect.Pointer && !scans(t) {
		inner, err := adapterOf(t.Elem(), notNull(f), false)
		return pointerAdapter(t, inner), err
	}
	a, null, err := plainAdapter(t, f)
	switch {
	case err != nil:
		return a, err
	case !f.NotNull && !null:
		return a, fmt.Errorf("the column may be NULL, and %s can't: use *%s or sql.Null[%s], or declare the column NOT NULL", t, t, t)
	}
	return a, nil
}

// plainAdapter chooses by the Go type; null reports whether that has a value for NULL.
func plainAdapter(t reflect.Type, f record.Field) (a adapter, null bool, err error) {
	switch {
	case f.Kind == record.Array && t.Kind() == reflect.Slice && t.Elem().Kind() != reflect.Uint8:
		a, err = sliceAdapter(t, f)
		return a, true, err
	case t == reflect.TypeFor[time.Time]():
		switch f.Kind {
		case record.Date, record.Timestamp, record.TimestampTZ:
			return timeAdapter(f.Kind), false, nil
		default:
			return a, false, noAdapter(t, f)
		}
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8 && (f.Kind == record.Bytes || f.Kind == record.JSON):
		return bytesAdapter(), true, nil
	case scans(t):
		return scannerAdapter(t, f)
	case t.Kind() == reflect.Array && t.Len() == 16 && t.Elem().Kind() == reflect.Uint8 && f.Kind == record.UUID:
		return uuidAdapter(), false, nil
	case reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]()) &&
		reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextMarshaler]()):
		if f.Type == "inet" || f.Type == "cidr" { // netip.Prefix writes 10.0.0.1/32 where PostgreSQL writes 10.0.0.1
			return a, false, fmt.Errorf("%w: use a string", noAdapter(t, f))
		}
		return marshalerAdapter(f), false, nil
	default:
		a, err = basicAdapter(t, f)
		return a, false, err
	}
}

func noAdapter(t reflect.Type, f record.Field) error {
	hint := ""
	switch f.Kind {
	case record.Decimal:
		hint = ": use a string or a decimal type, which keep every digit"
	case record.JSON:
		hint = ": use json.RawMessage, or the tag's option json"
	case record.Timestamp, record.TimestampTZ, record.Date:
		hint = ": use time.Time"
	default:
	}
	return fmt.Errorf("%s does not hold values of %s (%s)%s", t, f.Type, f.Kind, hint)
}

var errForm = errors.New("the value does not have the form of its field's type")

// present returns the text of a value that must not be NULL.
func present(v record.Value) (string, error) {
	switch v.State {
	case record.Present:
		return v.Text, nil
	case record.Null:
		return "", errors.New("the field is NULL")
	default:
		return "", errMissing
	}
}

// texts is the adapter of a Go type that has no NULL.
func texts(encode func(p any) (string, error), decode func(p any, text string) error) adapter {
	return adapter{
		encode: func(p any) (record.Value, error) {
			text, err := encode(p)
			if err != nil {
				return record.Value{}, err
			}
			return record.TextValue(text), nil
		},
		decode: func(p any, v record.Value) error {
			text, err := present(v)
			if err != nil {
				return err
			}
			return decode(p, text)
		},
	}
}

// pointerAdapter is NULL for nil.
func pointerAdapter(t reflect.Type, inner adapter) adapter {
	return adapter{
		encode: func(p any) (record.Value, error) {
			v := reflect.ValueOf(p).Elem()
			if v.IsNil() {
				return record.NullValue, nil
			}
			return inner.encode(v.Interface())
		},
		decode: func(p any, value record.Value) error {
			to := reflect.ValueOf(p).Elem()
			if value.State == record.Null {
				to.SetZero()
				return nil
			}
			made := reflect.New(t.Elem())
			if err := inner.decode(made.Interface(), value); err != nil {
				return err
			}
			to.Set(made)
			return nil
		},
	}
}

func basicAdapter(t reflect.Type, f record.Field) (a adapter, err error) {
	kind := f.Kind
	switch t.Kind() {
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		if kind == record.Int {
			return texts(
				func(p any) (string, error) { return strconv.FormatInt(reflect.ValueOf(p).Elem().Int(), 10), nil },
				func(p any, text string) error {
					n, err := strconv.ParseInt(text, 10, t.Bits())
					if err != nil {
						return errForm
					}
					reflect.ValueOf(p).Elem().SetInt(n)
					return nil
				}), nil
		}
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		if kind == record.Int {
			return texts(
				func(p any) (string, error) { return strconv.FormatUint(reflect.ValueOf(p).Elem().Uint(), 10), nil },
				func(p any, text string) error {
					n, err := strconv.ParseUint(text, 10, t.Bits())
					if err != nil {
						return errForm
					}
					reflect.ValueOf(p).Elem().SetUint(n)
					return nil
				}), nil
		}
	case reflect.Float32, reflect.Float64:
		if kind == record.Float32 || kind == record.Float && t.Kind() == reflect.Float64 {
			return texts(
				func(p any) (string, error) { return floatText(reflect.ValueOf(p).Elem().Float(), kind), nil },
				func(p any, text string) error {
					n, err := strconv.ParseFloat(text, t.Bits())
					if err != nil {
						return errForm
					}
					reflect.ValueOf(p).Elem().SetFloat(n)
					return nil
				}), nil
		}
	case reflect.Bool:
		if kind == record.Bool {
			return texts(
				func(p any) (string, error) { return strconv.FormatBool(reflect.ValueOf(p).Elem().Bool()), nil },
				func(p any, text string) error {
					b, err := strconv.ParseBool(text)
					if err != nil {
						return errForm
					}
					reflect.ValueOf(p).Elem().SetBool(b)
					return nil
				}), nil
		}
	case reflect.String:
		if kind != record.Bool && kind != record.Bytes && kind != record.Array {
			return texts(
				func(p any) (string, error) { return canonical(reflect.ValueOf(p).Elem().String(), f) },
				func(p any, text string) error { reflect.ValueOf(p).Elem().SetString(text); return nil },
			), nil
		}
	default:
	}
	return a, noAdapter(t, f)
}

// floatText is the shortest text that reads back to the same number, with PostgreSQL's words
// for those that are none.
func floatText(n float64, kind record.Kind) string {
	bits := 64
	if kind == record.Float32 {
		bits = 32
	}
	switch {
	case math.IsInf(n, 1):
		return "Infinity"
	case math.IsInf(n, -1):
		return "-Infinity"
	default:
		return strconv.FormatFloat(n, 'g', -1, bits)
	}
}

var forms = map[record.Kind]*regexp.Regexp{
	record.Int:       regexp.MustCompile(`^-?[0-9]+$`),
	record.Decimal:   regexp.MustCompile(`^(-?[0-9]+(\.[0-9]+)?|NaN|-?Infinity)$`),
	record.Date:      regexp.MustCompile(`^([0-9]{4,}-[0-9]{2}-[0-9]{2}( BC)?|-?infinity)$`),
	record.TimeOfDay: regexp.MustCompile(`^[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?([+-][0-9:]+)?$`),
	record.UUID:      regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`),
}

// canonical returns a text as the field's kind has it. A driver may have printed the value in
// another form (lib/pq scans a date into a string as "2024-02-29T00:00:00Z"): such a text is
// refused, or the application's records would differ from the backfill's.
func canonical(text string, f record.Field) (string, error) {
	kind := f.Kind
	switch kind {
	case record.UUID:
		text = strings.ToLower(text)
	case record.Timestamp, record.TimestampTZ:
		if text == "infinity" || text == "-infinity" {
			return text, nil
		}
		t, err := record.ParseTime(kind, text)
		if err != nil {
			return "", err
		}
		return record.FormatTime(kind, t)
	case record.Float, record.Float32:
		n, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return "", errForm
		}
		return floatText(n, kind), nil
	case record.Other:
		if f.Type == "inet" { // a cast to text writes the mask of a single address, inet itself does not
			if strings.Contains(text, ":") {
				return strings.TrimSuffix(text, "/128"), nil
			}
			return strings.TrimSuffix(text, "/32"), nil
		}
	default:
	}
	if form := forms[kind]; form != nil && !form.MatchString(text) {
		return "", errForm
	}
	return text, nil
}

func timeAdapter(kind record.Kind) adapter {
	return texts(
		func(p any) (string, error) { return record.FormatTime(kind, *p.(*time.Time)) },
		func(p any, text string) (err error) { *p.(*time.Time), err = record.ParseTime(kind, text); return err })
}

// bytesAdapter is for []byte, json.RawMessage and the like; nil is NULL.
func bytesAdapter() adapter {
	return adapter{
		encode: func(p any) (record.Value, error) {
			v := reflect.ValueOf(p).Elem()
			if v.IsNil() {
				return record.NullValue, nil
			}
			return record.TextValue(string(v.Bytes())), nil
		},
		decode: func(p any, v record.Value) error {
			if v.State == record.Null {
				reflect.ValueOf(p).Elem().SetZero()
				return nil
			}
			text, err := present(v)
			if err == nil {
				reflect.ValueOf(p).Elem().SetBytes(append([]byte{}, text...))
			}
			return err
		},
	}
}

func uuidAdapter() adapter {
	return texts(
		func(p any) (string, error) {
			v := reflect.ValueOf(p).Elem()
			b := v.Slice(0, 16).Bytes()
			return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:]), nil
		},
		func(p any, text string) error {
			digits := strings.ReplaceAll(text, "-", "")
			if len(digits) != 32 {
				return errForm
			}
			to := reflect.ValueOf(p).Elem().Slice(0, 16).Bytes()
			for i := range to {
				n, err := strconv.ParseUint(digits[2*i:2*i+2], 16, 8)
				if err != nil {
					return errForm
				}
				to[i] = byte(n)
			}
			return nil
		})
}

func marshalerAdapter(f record.Field) adapter {
	return texts(
		func(p any) (string, error) {
			text, err := p.(encoding.TextMarshaler).MarshalText()
			if err != nil {
				return "", errForm // its own error may contain the value
			}
			return canonical(string(text), f)
		},
		func(p any, text string) error {
			if p.(encoding.TextUnmarshaler).UnmarshalText([]byte(text)) != nil {
				return errForm
			}
			return nil
		})
}

// scans reports whether database/sql reads and writes the type by its own methods.
func scans(t reflect.Type) bool {
	return reflect.PointerTo(t).Implements(reflect.TypeFor[sql.Scanner]()) &&
		(t.Implements(reflect.TypeFor[driver.Valuer]()) || reflect.PointerTo(t).Implements(reflect.TypeFor[driver.Valuer]()))
}

// scannerAdapter goes by the values that database/sql would exchange with the type.
func scannerAdapter(t reflect.Type, f record.Field) (a adapter, null bool, err error) {
	if f.Kind == record.Array {
		return a, false, fmt.Errorf("%w: use a slice", noAdapter(t, f))
	}
	// It has NULL if it returns it after it has been given it: sql.NullString does, uuid.UUID does not.
	probe := reflect.New(t).Interface()
	if probe.(sql.Scanner).Scan(nil) == nil {
		v, err := probe.(driver.Valuer).Value()
		null = err == nil && v == nil
	}
	return adapter{
		encode: func(p any) (record.Value, error) {
			v, err := p.(driver.Valuer).Value()
			if err == nil { // sql.Null[int32] returns an int32
				v, err = driver.DefaultParameterConverter.ConvertValue(v)
			}
			if err != nil {
				return record.Value{}, errForm
			}
			return driverValue(v, f)
		},
		decode: func(p any, v record.Value) error {
			var src any
			if v.State != record.Null {
				text, err := present(v)
				if err != nil {
					return err
				}
				src = scanned(text, f.Kind)
			}
			if p.(sql.Scanner).Scan(src) != nil {
				return errForm
			}
			return nil
		},
	}, null, nil
}

// driverValue is the canonical form of what a driver.Valuer returned.
func driverValue(v driver.Value, f record.Field) (record.Value, error) {
	text, err := "", errForm
	switch v := v.(type) {
	case nil:
		return record.NullValue, nil
	case time.Time:
		text, err = record.FormatTime(f.Kind, v)
	case bool:
		if f.Kind == record.Bool {
			text, err = strconv.FormatBool(v), nil
		}
	case int64:
		if f.Kind == record.Int {
			text, err = strconv.FormatInt(v, 10), nil
		}
	case float64:
		if f.Kind == record.Float || f.Kind == record.Float32 {
			text, err = floatText(v, f.Kind), nil
		}
	case []byte:
		text, err = textOf(string(v), f)
	case string:
		text, err = textOf(v, f)
	}
	if err != nil {
		return record.Value{}, err
	}
	return record.TextValue(text), nil
}

func textOf(text string, f record.Field) (string, error) {
	switch f.Kind {
	case record.Bool:
		return "", errForm
	case record.Bytes:
		return text, nil
	default:
		return canonical(text, f)
	}
}

// scanned is a canonical text as a driver gives it to a sql.Scanner.
func scanned(text string, kind record.Kind) any {
	switch kind {
	case record.Bool:
		return text == "true"
	case record.Int:
		if n, err := strconv.ParseInt(text, 10, 64); err == nil {
			return n
		}
	case record.Float, record.Float32:
		if n, err := strconv.ParseFloat(text, 64); err == nil {
			return n
		}
	case record.Bytes, record.JSON:
		return []byte(text)
	case record.Date, record.Timestamp, record.TimestampTZ:
		if t, err := record.ParseTime(kind, text); err == nil {
			return t
		}
	default:
	}
	return text
}

func jsonAdapter(t reflect.Type, f record.Field) (adapter, error) {
	if f.Kind != record.JSON {
		return adapter{}, fmt.Errorf("the field is %s, not json", f.Type)
	}
	nullable := t.Kind() == reflect.Pointer || t.Kind() == reflect.Map || t.Kind() == reflect.Slice
	if !f.NotNull && !nullable {
		return adapter{}, fmt.Errorf("the column may be NULL, and %s can't: use *%s, or declare the column NOT NULL", t, t)
	}
	return adapter{
		encode: func(p any) (record.Value, error) {
			if nullable && !f.NotNull && reflect.ValueOf(p).Elem().IsNil() {
				return record.NullValue, nil
			}
			var b bytes.Buffer
			out := json.NewEncoder(&b)
			out.SetEscapeHTML(false)
			if out.Encode(p) != nil {
				return record.Value{}, errForm
			}
			return record.TextValue(strings.TrimSuffix(b.String(), "\n")), nil
		},
		decode: func(p any, v record.Value) error {
			reflect.ValueOf(p).Elem().SetZero() // Unmarshal keeps what the document lacks
			if v.State == record.Null && !f.NotNull {
				return nil
			}
			text, err := present(v)
			if err == nil && json.Unmarshal([]byte(text), p) != nil {
				err = errForm
			}
			return err
		},
	}, nil
}

// sliceAdapter is for arrays of one dimension; nil is NULL.
func sliceAdapter(t reflect.Type, f record.Field) (adapter, error) {
	element := record.Field{Name: f.Name, Kind: f.Element, Type: "an element of " + f.Type, NotNull: true}
	of := t.Elem()
	inner, err := adapterOf(of, element, false)
	if err != nil {
		return adapter{}, err
	}
	return adapter{
		encode: func(p any) (record.Value, error) {
			list := reflect.ValueOf(p).Elem()
			if list.IsNil() {
				if f.NotNull {
					return record.TextValue("[]"), nil
				}
				return record.NullValue, nil
			}
			values := make([]record.Value, list.Len())
			for i := range values {
				var err error
				if values[i], err = inner.encode(list.Index(i).Addr().Interface()); err != nil {
					return record.Value{}, err
				}
			}
			if f.Element == record.JSON {
				return record.TextValue(record.MakeJSONArray(values)), nil
			}
			b := []byte{'['}
			for i, v := range values {
				if i > 0 {
					b = append(b, ',')
				}
				b = appendElement(b, f.Element, v)
			}
			return record.TextValue(string(append(b, ']'))), nil
		},
		decode: func(p any, v record.Value) error {
			to := reflect.ValueOf(p).Elem()
			if v.State == record.Null {
				to.SetZero()
				return nil
			}
			text, err := present(v)
			if err != nil {
				return err
			}
			values, err := elementValues(text, f.Element)
			if err != nil {
				return err
			}
			list := reflect.MakeSlice(t, len(values), len(values))
			for i, v := range values {
				if err := inner.decode(list.Index(i).Addr().Interface(), v); err != nil {
					return err
				}
			}
			to.Set(list)
			return nil
		},
	}, nil
}

// appendElement appends an element as the canonical array has it: numbers and Booleans as
// themselves, bytes in base64, all others as strings. Those of JSON: see record.MakeJSONArray.
func appendElement(b []byte, kind record.Kind, v record.Value) []byte {
	if v.State != record.Present {
		return append(b, "null"...)
	}
	switch kind {
	case record.Bool:
		return append(b, v.Text...)
	case record.Int, record.Decimal, record.Float, record.Float32:
		if last := v.Text[len(v.Text)-1]; last != 'N' && last != 'y' { // NaN, Infinity
			return append(b, v.Text...)
		}
	case record.Bytes:
		v.Text = base64.StdEncoding.EncodeToString([]byte(v.Text))
	default:
	}
	quoted, _ := json.Marshal(v.Text) // a string always has a JSON form
	return append(b, quoted...)
}

func elementValues(text string, kind record.Kind) ([]record.Value, error) {
	if kind == record.JSON {
		values, ok := record.ParseJSONArray(text)
		if !ok {
			return nil, errForm
		}
		return values, nil
	}
	var raw []json.RawMessage
	if json.Unmarshal([]byte(text), &raw) != nil {
		return nil, errForm // of several dimensions, or with bounds of its own
	}
	values := make([]record.Value, len(raw))
	for i, one := range raw {
		var err error
		if values[i], err = elementValue(one, kind); err != nil {
			return nil, err
		}
	}
	return values, nil
}

func elementValue(raw json.RawMessage, kind record.Kind) (record.Value, error) {
	switch {
	case string(raw) == "null":
		return record.NullValue, nil
	case raw[0] != '"':
		return record.TextValue(string(raw)), nil
	}
	var text string
	if json.Unmarshal(raw, &text) != nil {
		return record.Value{}, errForm
	}
	if kind == record.Bytes {
		decoded, err := base64.StdEncoding.DecodeString(text)
		return record.TextValue(string(decoded)), err
	}
	return record.TextValue(text), nil
}
