package record

import (
	"strings"
	"time"
)

// Sides describes a field's values in both records, as Detail does.
func (c *Comparer) Sides(field int, legacy, target Record) (inLegacy, inTarget string) {
	show := c.fields[field].leeway.show
	return c.side(valueAt(legacy, field), show), c.side(valueAt(target, field), show)
}

// How describes the rule by which a field is compared, given all rules.
func (f Field) How(rules []Rule) string {
	how := []string{"by its bytes"}
	switch f.Kind {
	case Decimal:
		how[0] = "exactly, as a decimal"
	case Float, Float32:
		how[0] = "as the number it reads back to"
	case Timestamp, TimestampTZ:
		how[0] = "as an instant, to the microsecond"
	case UUID:
		how[0] = "without regard to case"
	case JSON, Array:
		how[0] = "by meaning"
	}
	for _, r := range rules {
		tokens, err := ParsePointer(r.Path)
		if err != nil || len(tokens) == 0 || tokens[0] != f.Name {
			continue
		}
		if len(tokens) > 1 {
			how = append(how, r.Path+" "+r.how())
			continue
		}
		if how[0] = r.how(); how[0] == "" {
			how[0] = "shown"
		}
	}
	return strings.Join(how, "; ")
}

func (r Rule) how() string {
	var parts []string
	if r.Ignore != "" {
		parts = append(parts, "ignored: "+r.Ignore)
	}
	if r.Tolerance != "" {
		parts = append(parts, "within "+r.Tolerance)
	}
	if r.Precision != 0 {
		parts = append(parts, "cut to "+time.Duration(r.Precision).String())
	}
	if r.As != "" {
		as := "as " + r.As
		if r.Zone != "" {
			as += " in " + r.Zone
		}
		parts = append(parts, as)
	}
	if r.Show {
		parts = append(parts, "shown")
	}
	return strings.Join(parts, ", ")
}
