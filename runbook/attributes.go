package runbook

import (
	"encoding"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/stranglerfig/migrator/migration"
)

// StepID matches the id of a step.
var StepID = regexp.MustCompile(`^[a-z][a-z0-9-]{0,39}$`)

// info parses a block's info string: a language, then {#id .kind key=value}. It returns nil
// for a block without braces, which is no step.
func info(text string) (*Step, error) {
	open := strings.IndexByte(text, '{')
	if open < 0 {
		return nil, nil
	}
	s := &Step{Language: strings.TrimSpace(text[:open])}
	rest := strings.TrimSpace(text[open+1:])
	if !strings.HasSuffix(rest, "}") {
		return nil, fmt.Errorf("the attributes begin with { and have no } at the end of the line")
	}
	words, err := attributeWords(strings.TrimSuffix(rest, "}"))
	if err != nil {
		return nil, err
	}
	given := map[string]bool{}
	for _, w := range words {
		if err := s.attribute(w, given); err != nil {
			return nil, err
		}
	}
	switch {
	case s.ID == "":
		return nil, fmt.Errorf("a step needs an id: {#drain .action}")
	case s.Kind == "":
		return nil, fmt.Errorf("step %s has no kind; write one of .%s", s.ID, strings.Join(Kinds, ", ."))
	}
	return s, nil
}

func (s *Step) attribute(word string, given map[string]bool) error {
	key, value, assigned := strings.Cut(word, "=")
	switch {
	case word[0] == '#':
		if s.ID != "" {
			return fmt.Errorf("step %s has a second id, %s", s.ID, word)
		}
		if s.ID = word[1:]; !StepID.MatchString(s.ID) || s.ID == None {
			return fmt.Errorf("%q is no id: want a letter first, then lower-case letters, digits and -, 40 at most, and not %s", word, None)
		}
		return nil
	case word[0] == '.':
		if s.Kind != "" {
			return fmt.Errorf("it has two kinds, .%s and %s", s.Kind, word)
		}
		if s.Kind = Kind(word[1:]); !slices.Contains(Kinds, word[1:]) {
			return fmt.Errorf("%s is no kind; the kinds are .%s", word, strings.Join(Kinds, ", ."))
		}
		return nil
	case !assigned:
		return fmt.Errorf("%q is no attribute; want #id, .kind or key=value", word)
	case given[key]:
		return fmt.Errorf("%s is given twice", key)
	}
	given[key] = true
	v := reflect.ValueOf(&s.Attributes).Elem()
	var known []string
	for _, f := range migration.Fields(v.Type()) {
		name := f.Tag.Get("yaml")
		if known = append(known, name); name == key {
			return setAttribute(key, value, v.FieldByIndex(f.Index))
		}
	}
	slices.Sort(known)
	return fmt.Errorf("there is no attribute %q; there are %s", key, strings.Join(known, ", "))
}

func setAttribute(key, value string, v reflect.Value) (err error) {
	if text, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		if err := text.UnmarshalText([]byte(value)); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		if v.Kind() == reflect.Int64 && v.Int() <= 0 {
			return fmt.Errorf("%s=%s: want a time above 0", key, value)
		}
		return nil
	}
	switch v.Kind() {
	case reflect.String:
		if value == "" {
			return fmt.Errorf("%s is empty", key)
		}
		v.SetString(value)
	case reflect.Bool:
		if value != "true" && value != "false" {
			return fmt.Errorf("%s=%s: want true or false", key, value)
		}
		v.SetBool(value == "true")
	case reflect.Int:
		n, err := strconv.Atoi(value)
		if err != nil || n < 0 || n > 1000 {
			return fmt.Errorf("%s=%s: want a whole number from 0 to 1000", key, value)
		}
		v.SetInt(int64(n))
	default: // a pointer to a number
		f, err := strconv.ParseFloat(value, 64)
		if err != nil || f-f != 0 {
			return fmt.Errorf("%s=%s: want a number", key, value)
		}
		v.Set(reflect.ValueOf(&f))
	}
	return nil
}

// attributeWords splits at blanks outside double quotes. Inside them, \" is a quote and \\ a
// backslash.
func attributeWords(text string) ([]string, error) {
	var words []string
	var word strings.Builder
	quoted, begun := false, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quoted && c == '\\' && i+1 < len(text) && (text[i+1] == '"' || text[i+1] == '\\'):
			i++
			word.WriteByte(text[i])
		case c == '"':
			quoted, begun = !quoted, true
		case !quoted && (c == ' ' || c == '\t'):
			if begun {
				words = append(words, word.String())
			}
			word.Reset()
			begun = false
		default:
			word.WriteByte(c)
			begun = true
		}
	}
	if quoted {
		return nil, fmt.Errorf("a quotation mark among the attributes is not closed")
	}
	if begun {
		words = append(words, word.String())
	}
	return slices.DeleteFunc(words, func(w string) bool { return w == "" }), nil
}
