package redis

import (
	"testing"

	"github.com/stranglerfig/migrator/record"
)

// TestPatternsMeet: two templates meet exactly if some Redis key is one of both.
func TestPatternsMeet(t *testing.T) {
	t.Parallel()
	schema := &record.Schema{
		Fields: []record.Field{{Name: "id", Kind: record.Int}, {Name: "name", Kind: record.Text}},
		Key:    []int{0},
	}
	named := &record.Schema{Fields: schema.Fields, Key: []int{1}}
	parse := func(s string, of *record.Schema) string {
		template, err := ParseTemplate(s, of)
		if err != nil {
			t.Fatal(err)
		}
		return template.pattern()
	}
	for _, c := range []struct {
		a, b string
		meet bool
	}{
		{parse("user:{id}", schema), parse("user:{id}", schema), true},
		{parse("user:{id}", schema), parse("cart:{id}", schema), false},
		{parse("user:{id}", schema), parse("user:{id}:prefs", schema), false},
		{parse("user:{id}", schema), parse("user:{name}", named), true},
		{parse("user:{name}", named), parse("user:{name}:prefs", named), true},
		{parse("user:{id}", schema), parse("user:1{id}", schema), true},
		{parse("user:{id}", schema), parse("user:x{id}", schema), false},
		{parse("{{user}}:{id}", schema), parse("user:{id}", schema), false},
		{parse("{name}", named), parse("user:{id}", schema), true},
		{`"user:" "0123`, parse("other:{id}", schema), true}, // of another program: not read
	} {
		if got := meet(c.a, c.b); got != c.meet {
			t.Errorf("%s and %s meet: %v", c.a, c.b, got)
		}
		if got := meet(c.b, c.a); got != c.meet {
			t.Errorf("%s and %s meet: %v", c.b, c.a, got)
		}
	}
}

// TestMarksAreSpread: in a cluster each range of slots has a mark; the slots are Redis's own.
func TestMarksAreSpread(t *testing.T) {
	t.Parallel()
	for tag, slot := range map[string]int{"123456789": 0x31C3 % slots, "foo": 12182, "bar": 5061} { // CLUSTER KEYSLOT
		if got := slotOf(tag); got != slot {
			t.Errorf("slot of %s: %d, want %d", tag, got, slot)
		}
	}
	for n, tag := range markTags() {
		if at := slotOf(tag); at/(slots/markRanges) != n {
			t.Errorf("tag %d, %q, is in slot %d", n, tag, at)
		}
	}
}

// TestMarksAreNoRecords: no template takes the name of a mark for a record's or a version's.
func TestMarksAreNoRecords(t *testing.T) {
	t.Parallel()
	schema := &record.Schema{Fields: []record.Field{{Name: "name", Kind: record.Text}}, Key: []int{0}}
	for _, text := range []string{"{name}", "x{name}", "{{{name}}}"} {
		template, err := ParseTemplate(text, schema)
		if err != nil {
			t.Fatal(err)
		}
		target := &Target{template: template, migration: "move"}
		for _, name := range append(target.marksOf("move"), registry) {
			if key, err := template.recordOf(name); err == nil {
				t.Errorf("%s: %s is the version of %q", text, name, string(key))
			}
			if key, err := template.Parse(name); err == nil {
				t.Errorf("%s: %s is the record %q", text, name, string(key))
			}
		}
	}
}
