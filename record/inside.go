package record

import (
	"encoding/json"
	"slices"
)

// Inside is what a named type is made of, where DDL can change that, and so the texts of values that are
// stored already: the labels of an enum, the attributes of a composite type with their types.
type Inside struct {
	Type  string   `json:"type"` // with its schema
	Enum  bool     `json:"enum,omitempty"`
	Parts []string `json:"parts"`
}

// InsideText is Field.Inside of the types that a column's values are made of.
func InsideText(of []Inside) string {
	if len(of) == 0 {
		return ""
	}
	text, _ := json.Marshal(of) // texts: JSON can't fail on them
	return string(text)
}

// ChangedInside returns the types of an applied Inside whose values have other texts now. A label that was added
// changes no value. "" is not known: nothing has changed.
func ChangedInside(was, is string) (changed []Inside) {
	if was == "" || is == "" || was == is {
		return nil
	}
	var before, now []Inside
	if json.Unmarshal([]byte(was), &before) != nil || json.Unmarshal([]byte(is), &now) != nil {
		return nil
	}
	for _, b := range before {
		i := slices.IndexFunc(now, func(n Inside) bool { return n.Type == b.Type })
		switch {
		case i < 0: // a type that is named otherwise now is another declared type, or another attribute's
		case b.Enum && slices.ContainsFunc(b.Parts, func(label string) bool { return !slices.Contains(now[i].Parts, label) }),
			!b.Enum && !slices.Equal(b.Parts, now[i].Parts):
			changed = append(changed, b)
		}
	}
	return changed
}
