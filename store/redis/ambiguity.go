package redis

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/record"
)

// ambiguity is the error for columns i and j whose border is not always visible. It
// names two records that would share a Redis key, if it finds such records; its hint
// is a template without the fault.
func (t *Template) ambiguity(i, j int, schema *record.Schema) error {
	var remedy hint.Hint
	if better := t.unambiguous(i, j, schema); better != "" {
		remedy.Text = fmt.Sprintf("target.key: %q", better)
	}
	first, second := t.columns[i].name, t.columns[j].name
	if x, y, ok := t.counterexample(i, j); ok {
		return hint.Errorf(remedy, "target.key %q is not injective: two different keys may give one Redis key (%s=%q, %s=%q and %s=%q, %s=%q)",
			t.source, first, x[0], second, x[1], first, y[0], second, y[1])
	}
	return hint.Errorf(remedy, "target.key %q is not injective: the border between %s and %s is not always visible", t.source, first, second)
}

// counterexample searches two pairs of texts of the columns i and j that give
// one Redis key, all other columns being equal.
func (t *Template) counterexample(i, j int) (x, y [2]string, found bool) {
	var between strings.Builder
	for n := i; n < j; n++ {
		if n > i {
			between.WriteString(t.columns[n].shape.sample())
		}
		between.WriteString(t.literals[n+1])
	}
	middle := between.String()
	seen := map[string][2]string{}
	for _, a := range t.columns[i].shape.candidates(middle) {
		for _, b := range t.columns[j].shape.candidates(middle) {
			pair := [2]string{a, b}
			whole := a + middle + b
			if other, ok := seen[whole]; ok && other != pair {
				return other, pair, true
			}
			seen[whole] = pair
		}
	}
	return x, y, false
}

// candidates returns texts that need no escaping.
func (sh shape) candidates(middle string) []string {
	var texts []string
	for _, s := range []string{"1", "23", "12", "3", "1" + middle + "2", "2" + middle + "3", "2"} {
		if sh.text && !strings.ContainsFunc(s, func(r rune) bool { return r < 0x80 && escaped(byte(r)) }) ||
			sh.kind == record.Int && isInt(s) {
			texts = append(texts, s)
		}
	}
	if len(texts) == 0 {
		texts = append(texts, sh.sample())
	}
	return texts
}

// sample returns one text of the kind.
func (sh shape) sample() string {
	switch sh.kind {
	case record.Bool:
		return "true"
	case record.UUID:
		return "00000000-0000-0000-0000-000000000000"
	case record.Date:
		return "2024-02-29"
	case record.TimeOfDay:
		return "12:00:00"
	case record.Timestamp:
		return "2024-02-29T12:00:00"
	case record.TimestampTZ:
		return "2024-02-29T12:00:00Z"
	case record.Interval:
		return "PT1S"
	default:
		return "9"
	}
}

// unusual returns a text of the kind that hardly any record has: another one each time, as far as the
// kind has many.
func (sh shape) unusual() string {
	n := rand.Int64N(900_000_000) + 100_000_000
	switch {
	case sh.text:
		return fmt.Sprintf("migrator check %d", n)
	case sh.kind == record.Int:
		return fmt.Sprintf("-%d%d", n, rand.Int64N(900_000_000)+100_000_000)
	case sh.kind == record.Decimal:
		return fmt.Sprintf("-%d.%d", n, n)
	case sh.kind == record.Bool:
		return strconv.FormatBool(n%2 == 0)
	case sh.kind == record.UUID:
		return fmt.Sprintf("ffffffff-ffff-ffff-ffff-%012x", n)
	case sh.kind == record.Date:
		return fmt.Sprintf("%d-01-01", n%290_000+5_000_000)
	case sh.kind == record.TimeOfDay:
		return fmt.Sprintf("23:59:59.%06d", n%1_000_000)
	case sh.kind == record.Timestamp, sh.kind == record.TimestampTZ:
		return strings.Replace(sh.sample(), "2024-02-29T12:00:00", fmt.Sprintf("%d-01-01T00:00:00.%06d", n%100_000+100_000, n%1_000_000), 1)
	case sh.kind == record.Interval:
		return fmt.Sprintf("PT-%dS", n)
	default:
		return sh.sample()
	}
}

// unambiguous searches a similar template that is injective: first with another
// separator after column i or before column j, then with a hash tag around one
// column, then around each column that needs it. "" if there is none.
func (t *Template) unambiguous(i, j int, schema *record.Schema) string {
	proven := func(literals []string) string {
		s := t.sourceWith(literals)
		u, err := readTemplate(s, schema)
		if err != nil {
			return ""
		}
		if _, _, bad := u.ambiguous(); bad {
			return ""
		}
		return s
	}
	change := func(at int, text string) string {
		literals := append([]string(nil), t.literals...)
		literals[at] = text
		return proven(literals)
	}
	for _, separator := range []string{":", "|", "/", "#"} {
		for _, at := range []int{i + 1, j} {
			if s := change(at, separator); s != "" {
				return s
			}
		}
	}
	wrapped := append([]string(nil), t.literals...)
	for n := i; n < j; n++ {
		wrapped[n] += "{"
		wrapped[n+1] = "}" + wrapped[n+1]
		if s := proven(wrapped); s != "" {
			return s
		}
	}
	return ""
}

// sourceWith writes the template with other literals.
func (t *Template) sourceWith(literals []string) string {
	var b strings.Builder
	double := strings.NewReplacer("{", "{{", "}", "}}")
	for i, c := range t.columns {
		b.WriteString(double.Replace(literals[i]) + written(c.name))
	}
	b.WriteString(double.Replace(literals[len(t.columns)]))
	return b.String()
}
