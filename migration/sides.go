package migration

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// Legacy is the store that records leave.
type Legacy struct {
	Store   string     `yaml:"store" json:"store" jsonschema:"required" jsonschema_description:"The kind of store"`
	URL     string     `yaml:"url" json:"url,omitempty" jsonschema_description:"write ${VARIABLE} for secrets"`
	URLFile string     `yaml:"url_file" json:"url_file,omitempty" jsonschema_description:"File with the URL"`
	Part    LegacyPart `yaml:"-" json:"-"` // the store's own keys; nil: not known, as by json.Unmarshal

	rest string // the JSON of a Part that is not known
}

// Target is the store that records enter.
type Target struct {
	Store   string     `yaml:"store" json:"store" jsonschema:"required" jsonschema_description:"The kind of store"`
	URL     string     `yaml:"url" json:"url,omitempty" jsonschema_description:""`
	URLFile string     `yaml:"url_file" json:"url_file,omitempty" jsonschema_description:"File with the URL"`
	Part    TargetPart `yaml:"-" json:"-"` // the store's own keys; nil: not known, as by json.Unmarshal

	rest string // the JSON of a Part that is not known
}

// MarshalJSON implements json.Marshaler: the keys of all stores, and then those of the
// store's own part.
func (l Legacy) MarshalJSON() ([]byte, error) {
	type common Legacy
	return joinObjects(common(l), l.Part, l.rest)
}

// MarshalJSON implements json.Marshaler, as Legacy's does.
func (t Target) MarshalJSON() ([]byte, error) {
	type common Target
	return joinObjects(common(t), t.Part, t.rest)
}

// UnmarshalJSON implements json.Unmarshaler. It does not know the kinds of store, unlike
// Stored. MarshalJSON writes the unknown keys again unchanged.
func (l *Legacy) UnmarshalJSON(text []byte) (err error) {
	type common Legacy
	*l = Legacy{}
	if err := json.Unmarshal(text, (*common)(l)); err != nil {
		return err
	}
	l.rest, err = ownKeys(text)
	return err
}

// UnmarshalJSON implements json.Unmarshaler, as Legacy's does.
func (t *Target) UnmarshalJSON(text []byte) (err error) {
	type common Target
	*t = Target{}
	if err := json.Unmarshal(text, (*common)(t)); err != nil {
		return err
	}
	t.rest, err = ownKeys(text)
	return err
}

// Stored reads what Public wrote, with the stores' own parts. The part of a kind that is
// not given stays unknown. A key that the text lacks is a zero; where no file may have a
// zero, an earlier release had no such key, and it is the default.
func Stored(text []byte, kinds ...Kind) (*Config, error) {
	m := &Config{}
	if err := json.Unmarshal(text, m); err != nil {
		return nil, err
	}
	for _, k := range kinds {
		if k.Name == m.Legacy.Store && k.Legacy != nil {
			own := k.Legacy()
			if err := readPart(m.Legacy.rest, own); err != nil {
				return nil, fmt.Errorf("legacy: %w", err)
			}
			m.Legacy.Part, m.Legacy.rest = own, ""
		}
		if k.Name == m.Target.Store && k.Target != nil {
			own := k.Target()
			if err := readPart(m.Target.rest, own); err != nil {
				return nil, fmt.Errorf("target: %w", err)
			}
			m.Target.Part, m.Target.rest = own, ""
		}
	}
	m.absentJobs()
	return m, nil
}

func readPart(rest string, part any) error {
	if rest == "" {
		return nil
	}
	return json.Unmarshal([]byte(rest), part)
}

// joinObjects writes one object with the keys of two.
func joinObjects(common, part any, rest string) ([]byte, error) {
	text, err := json.Marshal(common)
	if err != nil {
		return nil, err
	}
	own := []byte(rest)
	if !isNil(part) {
		if own, err = json.Marshal(part); err != nil {
			return nil, err
		}
	}
	if len(own) <= len("{}") {
		return text, nil
	}
	return append(append(text[:len(text)-1], ','), own[1:]...), nil
}

func isNil(part any) bool {
	v := reflect.ValueOf(part)
	return !v.IsValid() || v.Kind() == reflect.Pointer && v.IsNil()
}

// commonKeys are the keys of every store.
var commonKeys = []string{"store", "url", "url_file"}

// ownKeys is the object without the common keys, in its order.
func ownKeys(text []byte) (string, error) {
	in := json.NewDecoder(bytes.NewReader(text))
	if start, err := in.Token(); err != nil || start != json.Delim('{') {
		return "", err // null
	}
	var b strings.Builder
	for in.More() {
		key, err := in.Token()
		if err != nil {
			return "", err
		}
		var value json.RawMessage
		if err := in.Decode(&value); err != nil {
			return "", err
		}
		name, _ := key.(string)
		if slices.Contains(commonKeys, name) {
			continue
		}
		quoted, err := json.Marshal(name)
		if err != nil {
			return "", err
		}
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		b.Write(quoted)
		b.WriteByte(':')
		b.Write(value)
	}
	if b.Len() == 0 {
		return "", nil
	}
	return "{" + b.String() + "}", nil
}
