package record

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

var (
	keyForms = map[Kind]*regexp.Regexp{
		Bool:        regexp.MustCompile(`^(true|false)$`),
		Int:         regexp.MustCompile(`^(0|-?[1-9][0-9]*)$`),
		Decimal:     regexp.MustCompile(`^(-?[0-9]+(\.[0-9]+)?|NaN|-?Infinity)$`),
		Date:        regexp.MustCompile(`^([0-9]{4,}-[0-9]{2}-[0-9]{2}( BC)?|-?infinity)$`),
		Timestamp:   regexp.MustCompile(`^([0-9]{4,}-[0-9]{2}-[0-9]{2}T[0-9:.]+( BC)?|-?infinity)$`),
		TimestampTZ: regexp.MustCompile(`^([0-9]{4,}-[0-9]{2}-[0-9]{2}T[0-9:.]+Z( BC)?|-?infinity)$`),
		UUID:        regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`),
	}
	keyExamples = map[Kind]string{
		Bool: "true", Int: "42", Decimal: "12.50", Float: "0.5", Float32: "0.5", Date: "2024-02-29", Timestamp: "2024-02-29T12:00:00",
		TimestampTZ: "2024-02-29T12:00:00Z", UUID: "0b5c9d3e-6a2f-4c58-9d2b-3f1a7e8c4d10",
	}
)

// CheckKey returns the texts of the key's columns. The error shows the format of this schema's
// keys.
func (s *Schema) CheckKey(k Key) ([]string, error) {
	parts, err := k.Parts()
	if err != nil {
		return nil, fmt.Errorf("%w; %s", err, s.keyForm())
	}
	if len(parts) != len(s.Key) {
		return nil, fmt.Errorf("key %q has %s; %s", string(k), columnsOf(len(parts)), s.keyForm())
	}
	for i, at := range s.Key {
		f := s.Fields[at]
		form, ok := keyForms[f.Kind], true
		switch {
		case form != nil:
			ok = form.MatchString(parts[i])
		case f.Kind == Float || f.Kind == Float32:
			_, err := strconv.ParseFloat(parts[i], 64)
			ok = err == nil
		}
		if !ok {
			return nil, fmt.Errorf("key %q: %q is no %s, which the column %s is written as; %s", string(k), parts[i], f.Kind, f.Name, s.keyForm())
		}
	}
	return parts, nil
}

func columnsOf(n int) string {
	if n == 1 {
		return "one column"
	}
	return strconv.Itoa(n) + " columns"
}

// keyForm describes the format of keys, with an example.
func (s *Schema) keyForm() string {
	names, example := make([]string, len(s.Key)), make([]string, len(s.Key))
	for i, at := range s.Key {
		f := s.Fields[at]
		names[i] = f.Name + " (" + f.Type + ")"
		if example[i] = keyExamples[f.Kind]; example[i] == "" {
			example[i] = "abc"
		}
	}
	text := "a key is " + strings.Join(names, ", then ") + ", such as " + strconv.Quote(strings.Join(example, ","))
	if len(s.Key) > 1 {
		text += ": commas between them, and %2C for one inside"
	}
	return text
}
