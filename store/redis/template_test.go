package redis

import (
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/record"
)

// keyed is a schema whose key is the fields given as "name kind".
func keyed(fields ...string) *record.Schema {
	s := &record.Schema{}
	for i, f := range fields {
		name, kind, _ := strings.Cut(f, " ")
		s.Fields = append(s.Fields, record.Field{Name: name, Target: name, Kind: record.Kind(kind), Type: kind})
		s.Key = append(s.Key, i)
	}
	return s
}

func TestTemplateRender(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		template string
		schema   *record.Schema
		key      record.Key
		want     string
	}{
		{"product:{id}", keyed("id int"), "42", "product:42"},
		{"{id}", keyed("id text"), "", ""},
		{"cart:{{{user}}}:{item}", keyed("user text", "item text"), "a:b,c:d", "cart:{a:b}:c:d"},
		{"{b}/{a}", keyed("a int", "b text"), "-7,x/y", "x/y/-7"},
		{"{a}-{b}", keyed("a int", "b int"), "1,-2", "1--2"},
		{"{a}{b}", keyed("a uuid", "b text"), "f47ac10b-58cc-4372-a567-0e02b2c3d479,x", "f47ac10b-58cc-4372-a567-0e02b2c3d479x"},
		{"x{a}:{b}:{c}y", keyed("a int", "b text", "c bool"), "1,:,true", "x1:::truey"},
		{"k:{t}", keyed("t text"), record.MakeKey("a{b}%\n\x7fé,"), "k:a%7Bb%7D%25%0A%7Fé,"},
		{`k:{"a}b"}`, keyed("a}b int"), "5", "k:5"},
		{`k:{"""a{}"}:{b}`, keyed(`"a{} int`, "b int"), "5,6", "k:5:6"},
		{"d:{d}:{n}", keyed("d timestamptz", "n int"), record.MakeKey("2024-02-29T12:00:00Z", "5"), "d:2024-02-29T12:00:00Z:5"},
	} {
		template, err := ParseTemplate(c.template, c.schema)
		if err != nil {
			t.Errorf("%s: %v", c.template, err)
			continue
		}
		got, err := template.Render(c.key)
		if err != nil || got != c.want {
			t.Errorf("%s of %q: %q, %v; want %q", c.template, c.key, got, err, c.want)
		}
		if back, err := template.Parse(got); err != nil || back != c.key {
			t.Errorf("%s back from %q: %q, %v; want %q", c.template, got, back, err, c.key)
		}
	}
}

func TestTemplateRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		template string
		schema   *record.Schema
		want     string // in the message
		better   string // the template in the hint
	}{
		{"a:{x}{y}", keyed("x int", "y int"), `(x="1", y="23" and x="12", y="3")`, "a:{x}:{y}"},
		{"a:{x}{y}", keyed("x text", "y int"), `(x="1", y="23" and x="12", y="3")`, "a:{x}:{y}"},
		{"a:{x}:{y}", keyed("x text", "y text"), `(x="1", y="2:3" and x="1:2", y="3")`, "a:{{{x}}}:{y}"},
		{"{x}1{y}", keyed("x int", "y int"), "not injective", "{x}:{y}"},
		{"{x}:{y}:{z}", keyed("x text", "y text", "z text"), "not injective", "{{{x}}}:{{{y}}}:{z}"},
		{"{x}-{y}-{z}", keyed("x text", "y int", "z text"), "not injective", "any"},
		{"{d}{n}", keyed("d date", "n int"), "the border between d and n is not always visible", "{d}:{n}"},
		{"p:{id}", keyed("id int", "eu text"), `key column "eu" is missing`, ""},
		{"p", keyed("id int"), `key column "id" is missing`, ""},
		{"", keyed("id int"), `key column "id" is missing`, ""},
		{"p:{id}:{id}", keyed("id int"), `column "id" appears twice`, ""},
		{"p:{nope}", keyed("id int"), `there is no column "nope"; the record's key is id`, ""},
		{"p:{id", keyed("id int"), "a { without }", ""},
		{"p:id}", keyed("id int"), "a } without {", ""},
		{"p:{x}", keyed("x float"), "several texts", ""},
		{"p:{x}", keyed("x json"), "several texts", ""},
		{"migrator:v:{{{id}}}", keyed("id int"), "hold the versions of deleted records", ""},
	} {
		_, err := ParseTemplate(c.template, c.schema)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v\nwant %s", c.template, err, c.want)
			continue
		}
		h, _ := hint.Of(err)
		quoted, ok := strings.CutPrefix(h.Text, "target.key: ")
		if !ok {
			if c.better != "" {
				t.Errorf("%s: no template in the hint %q", c.template, h.Text)
			}
			continue
		}
		better, err := strconv.Unquote(quoted)
		if err != nil || c.better != "any" && better != c.better {
			t.Errorf("%s: the hint's template is %s, want %s", c.template, quoted, c.better)
		}
		if _, err := ParseTemplate(better, c.schema); err != nil {
			t.Errorf("%s: the hint's template %s: %v", c.template, better, err)
		}
	}
	schema := keyed("id int")
	schema.Fields = append(schema.Fields, record.Field{Name: "name", Kind: record.Text})
	if _, err := ParseTemplate("p:{id}:{name}", schema); err == nil || !strings.Contains(err.Error(), `column "name" is not in the record's key (id)`) {
		t.Error(err)
	}
}

func TestTemplateRefusesKeys(t *testing.T) {
	t.Parallel()
	template, err := ParseTemplate("p:{a}:{b}", keyed("a int", "b text"))
	ok(t, err)
	for _, key := range []record.Key{"1", "1,2,3", "x,y", "01,y", "-0,y", ",y", "1:2,y", "+1,y", "1,%", "１,y"} {
		if raw, err := template.Render(key); err == nil {
			t.Errorf("%q gave %q", key, raw)
		}
	}
	for _, raw := range []string{"", "p:", "p:1", "q:1:x", "p:01:x", "p:1:%", "p:1:%41", "p:1:%7b", "p:1:{", "p:1:\n", "P:1:x", "p::x", "p:--1:x"} {
		if key, err := template.Parse(raw); err == nil {
			t.Errorf("%q gave %q", raw, key)
		}
	}
}

// kindGenerators make canonical texts, some of which contain the separators of templates.
var kindGenerators = map[record.Kind]*rapid.Generator[string]{
	record.Int:         rapid.Custom(func(t *rapid.T) string { return strconv.FormatInt(rapid.Int64().Draw(t, "int"), 10) }),
	record.Text:        rapid.OneOf(rapid.StringOf(rapid.SampledFrom([]rune(":-|{}%/,0129aé\n\x7f ."))), rapid.String()),
	record.Bytes:       rapid.Custom(func(t *rapid.T) string { return string(rapid.SliceOf(rapid.Byte()).Draw(t, "bytes")) }),
	record.Bool:        rapid.SampledFrom([]string{"true", "false"}),
	record.UUID:        rapid.StringMatching(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`),
	record.Decimal:     rapid.StringMatching(`-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,10})?|NaN|-?Infinity`),
	record.Date:        rapid.StringMatching(`[0-9]{4,6}-[01][0-9]-[0-3][0-9]( BC)?|-?infinity`),
	record.TimestampTZ: rapid.StringMatching(`[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[1-9])?Z( BC)?|-?infinity`),
	record.Interval:    rapid.StringMatching(`P(-?[1-9]Y)?(-?[1-9]M)?(T-?[1-9](\.[1-9])?S)?`),
	record.TimeOfDay:   rapid.StringMatching(`[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[1-9])?`),
}

// TestTemplateIsInjective: every random template that is accepted gives different keys
// different names, and parses each name back to its key.
func TestTemplateIsInjective(t *testing.T) {
	t.Parallel()
	kinds := []record.Kind{record.Int, record.Int, record.Text, record.Text, record.Bytes, record.Bool, record.UUID, record.Decimal, record.Date, record.TimestampTZ, record.Interval, record.TimeOfDay}
	accepted, refused := 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		literal := rapid.SampledFrom([]string{"", "", ":", "-", "{{", "}}", "1", "a", "::", "}}:{{", "%", "-:", ":-", "Z", "e", "t"})
		n := rapid.IntRange(1, 4).Draw(rt, "columns")
		schema := &record.Schema{}
		text := "k" + literal.Draw(rt, "literal")
		for i := range n {
			name := string(rune('p' + i))
			schema.Fields = append(schema.Fields, record.Field{Name: name, Kind: rapid.SampledFrom(kinds).Draw(rt, "kind")})
			text += "{" + name + "}" + literal.Draw(rt, "literal")
		}
		schema.Key = rapid.Permutation(indexes(n)).Draw(rt, "order")
		template, err := ParseTemplate(text, schema)
		if err != nil {
			refused++
			return
		}
		accepted++
		names := map[string]record.Key{}
		for range 20 {
			parts := make([]string, n)
			for part, at := range schema.Key {
				parts[part] = kindGenerators[schema.Fields[at].Kind].Draw(rt, "part")
			}
			key := record.MakeKey(parts...)
			raw, err := template.Render(key)
			if err != nil {
				rt.Fatalf("%s of %q: %v", text, key, err)
			}
			if other, ok := names[raw]; ok && other != key {
				rt.Fatalf("%s gives %q to %q and to %q", text, raw, key, other)
			}
			names[raw] = key
			if back, err := template.Parse(raw); err != nil || back != key {
				rt.Fatalf("%s reads %q as %q (%v), not %q", text, raw, back, err, key)
			}
			beside, _ := sidecar(raw)
			if back, err := template.recordOf(beside); err != nil || back != key {
				rt.Fatalf("%s reads the sidecar %q as %q (%v), not %q", text, beside, back, err, key)
			}
		}
	})
	if accepted < 10 || refused < 10 {
		t.Errorf("only %d templates accepted and %d refused", accepted, refused)
	}
}

func indexes(n int) []int {
	all := make([]int, n)
	for i := range all {
		all[i] = i
	}
	return all
}

// FuzzTemplateParse: Render produces every name that Parse accepts.
func FuzzTemplateParse(f *testing.F) {
	var templates []*Template
	for _, c := range []struct {
		text   string
		schema *record.Schema
	}{
		{"product:{id}", keyed("id int")},
		{"{id}", keyed("id text")},
		{"c:{{{u}}}:{i}", keyed("u text", "i text")},
		{"{a}-{b}-{c}", keyed("a int", "b text", "c bool")},
		{"{a}{b}x{c}", keyed("a uuid", "b text", "c int")},
		{"{t}:{a}", keyed("a int", "t timestamp")},
	} {
		template, err := ParseTemplate(c.text, c.schema)
		if err != nil {
			f.Fatal(err)
		}
		templates = append(templates, template)
	}
	for _, raw := range []string{"product:42", "c:{a%25}:b", "1-x-true", "f47ac10b-58cc-4372-a567-0e02b2c3d479xx5", "migrator:v:{product:4}", "migrator:v:{a}c:{a}:b"} {
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		for _, template := range templates {
			if key, err := template.Parse(raw); err == nil {
				if again, err := template.Render(key); err != nil || again != raw {
					t.Fatalf("%s reads %q as %q, whose name is %q (%v)", template, raw, key, again, err)
				}
			}
			if key, err := template.recordOf(raw); err == nil {
				name, _ := template.Render(key)
				if again, _ := sidecar(name); again != raw {
					t.Fatalf("%s reads the sidecar %q as %q, whose sidecar is %q", template, raw, key, again)
				}
			}
		}
	})
}

// FuzzParseTemplate: no text makes it panic, and every accepted template can be printed.
func FuzzParseTemplate(f *testing.F) {
	for _, s := range []string{"product:{id}", "{{{id}}}", "}}{{", "{a}{b}", "{", "}", "{}"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, schema := range []*record.Schema{keyed("id int"), keyed("a text", "b int"), keyed("a text", "b text", "id int")} {
			template, err := ParseTemplate(s, schema)
			if err != nil {
				continue
			}
			if template.sourceWith(template.literals) != s {
				t.Fatalf("%q is written as %q", s, template.sourceWith(template.literals))
			}
		}
	})
}
