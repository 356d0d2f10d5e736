package redis

import (
	"cmp"
	"strconv"
	"strings"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// exceedsDouble reports whether a field may have numbers of more digits than a double holds: many
// readers of JSON know no other number.
func exceedsDouble(f *record.Field) bool {
	kind, plain := f.Kind, strings.TrimSuffix(cmp.Or(f.Base, f.Type), "[]")
	if kind == record.Array {
		kind = f.Element
	}
	switch kind {
	case record.Int:
		return plain != "smallint" && plain != "integer"
	case record.Decimal:
		precision, _, _ := strings.Cut(strings.TrimPrefix(plain, "numeric("), ",")
		n, err := strconv.Atoi(strings.TrimSuffix(precision, ")"))
		return err != nil || n > 15
	}
	return false
}

// asStrings reports whether target.numbers is for the field: all its values have one JSON type.
func asStrings(f *record.Field) bool {
	return f.Kind == record.Decimal || f.Kind == record.Array && f.Element == record.Decimal || exceedsDouble(f)
}

// checkMeanings warns of rules that are for columns of another type: Redis has none.
func (t *Target) checkMeanings() []store.Check {
	var checks []store.Check
	for _, r := range t.rules {
		tokens, err := record.ParsePointer(r.Path)
		if r.As == "" || err != nil || len(tokens) == 0 {
			continue
		}
		at := t.schema.Index(tokens[0])
		if at < 0 {
			continue // the comparer's error says so
		}
		kind := t.schema.Fields[at].Kind
		if kind == record.Array {
			kind = t.schema.Fields[at].Element
		}
		if kind != record.Text && kind != record.Other {
			checks = append(checks, store.Check{
				Name: "redis-compare", Result: store.Warned, Detail: "the rule of compare for " + r.Path + " has no effect: as is for texts, and for columns of a target of another type; Redis has legacy's values",
				Hint: hint.Hint{Text: "leave as and zone out"},
			})
		}
	}
	return checks
}

// checkDocuments warns of numbers that readers of the documents may round.
func (t *Target) checkDocuments() []store.Check {
	c, ok := t.codec.(*jsonCodec)
	if !ok {
		return nil
	}
	var wide, nested []string
	all := true
	for i := range t.schema.Fields {
		f := &t.schema.Fields[i]
		switch {
		case exceedsDouble(f):
			wide = append(wide, f.Name+" ("+f.Type+")")
			all = all && c.texts[i]
		case f.Kind == record.JSON || f.Kind == record.Array && f.Element == record.JSON:
			nested = append(nested, f.Name+" ("+f.Type+")")
		}
	}
	var checks []store.Check
	switch {
	case len(wide) == 0:
	case all:
		checks = append(checks, store.Check{Name: "redis-numbers", Result: store.Good, Detail: list(wide) + ": written as strings"})
	default:
		checks = append(checks, store.Check{
			Name: "redis-numbers", Result: store.Warned,
			Detail: list(wide) + ": a reader that knows doubles alone (JavaScript, Python's and Go's default) loses digits of integers beyond 2^53 and of long decimals",
			Hint:   hint.Hint{Text: "target: {numbers: string} writes such columns as strings; or make sure that readers keep all digits"},
		})
	}
	if len(nested) > 0 {
		checks = append(checks, store.Check{
			Name: "redis-numbers", Result: store.Warned,
			Detail: list(nested) + ": numbers inside JSON stay as legacy has them, also with target.numbers; a reader that knows doubles alone loses digits of long ones",
			Hint:   hint.Hint{Text: "make sure that readers keep all digits, or that the documents have no such numbers"},
		})
	}
	return checks
}

func list(columns []string) string {
	const most = 12
	if len(columns) > most {
		columns = append(columns[:most:most], "and "+strconv.Itoa(len(columns)-most)+" more")
	}
	if len(columns) == 1 {
		return "column " + columns[0]
	}
	return "columns " + strings.Join(columns, ", ")
}
