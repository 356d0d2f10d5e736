package redis

import (
	"encoding/json"
	"errors"
	"math"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// documentSchema has the fields whose JSON may be a problem, as far as PostgreSQL's types go.
func documentSchema() *record.Schema {
	s := &record.Schema{Key: []int{0}}
	for _, f := range []record.Field{
		{Name: "id", Kind: record.Int, Type: "bigint"},
		{Name: "small", Kind: record.Int, Type: "integer"},
		{Name: "amount", Kind: record.Decimal, Type: "numeric"},
		{Name: "price", Kind: record.Decimal, Type: "numeric(10,2)"},
		{Name: "ratio", Kind: record.Float, Type: "double precision"},
		{Name: "j", Kind: record.JSON, Type: "json"},
		{Name: "note", Kind: record.Text, Type: "text"},
		{Name: "ids", Kind: record.Array, Element: record.Int, Type: "bigint[]"},
		{Name: "docs", Kind: record.Array, Element: record.JSON, Type: "json[]"},
		{Name: "amounts", Kind: record.Array, Element: record.Decimal, Type: "numeric[]"},
	} {
		f.Target = f.Name
		s.Fields = append(s.Fields, f)
	}
	return s
}

func documentCodec(t testing.TB, numbers string) *jsonCodec {
	t.Helper()
	s := documentSchema()
	names, err := targetNames(s, "_v")
	ok(t, err)
	c, err := newJSONCodec(s, names, "_v", numbers)
	ok(t, err)
	return c
}

// oddJSON are texts that PostgreSQL's json takes.
var oddJSON = []string{
	`{"a":1}`, ` {"b" : 1, "a":2 }` + "\n", `"\ud800"`, `"\udc00\ud800"`, `{"\ud800":1}`, `"\u0000"`, `{"\u0000":1}`, `{"a":1,"a":2}`, `{"a":1,"\u0061":2}`, `[{"x":{"a":1,"a":1}}]`,
	`1e400`, `-1e999999`, `[1e309]`, "1" + strings.Repeat("0", 400), `1e-400`, `0.` + strings.Repeat("0", 5000) + `1`, strings.Repeat("9", 5000),
	strings.Repeat("[", 100) + strings.Repeat("]", 100), strings.Repeat("[", 9000) + strings.Repeat("]", 9000), strings.Repeat(`{"a":`, 63) + `1` + strings.Repeat("}", 63), strings.Repeat(`{"a":`, 64) + `1` + strings.Repeat("}", 64),
	`{"_text":"x"}`, `{"_text":"{\"_text\":\"x\"}"}`, `{"_text":1}`, `{"_text":"x","y":1}`, `{"_text": "x"}`, `null`, ` null `, `""`, `"🦖\ud83e\udd96"`, `"\\u0000"`, "\t[1 , 2]\r\n",
}

func (c *jsonCodec) roundTrip(t testing.TB, r record.Record) []byte {
	t.Helper()
	doc, err := c.encode(nil, someVersion.AppendText32(nil), r)
	ok(t, err)
	var e store.Entry
	c.decode(&e, string(doc))
	if e.Presence != store.Live || !slices.Equal(e.Record, r) {
		t.Fatalf("%.300s is read as %s (%s) %.300q, was %.300q", doc, e.Presence, e.Detail, e.Record, r)
	}
	return doc
}

func withFields(c *jsonCodec, values map[string]string) record.Record {
	r := make(record.Record, len(c.quoted))
	for i := range r {
		r[i] = record.NullValue
		if text, ok := values[c.schema.Fields[i].Name]; ok {
			r[i] = record.TextValue(text)
		}
	}
	return r
}

// TestDocumentsForOthers: each document comes back byte for byte, and can be read by parsers that
// are not migrator's.
func TestDocumentsForOthers(t *testing.T) {
	t.Parallel()
	var documents []string
	for _, numbers := range []string{"", numbersAsStrings} {
		c := documentCodec(t, numbers)
		add := func(values map[string]string) {
			values["id"] = "9007199254740993"
			documents = append(documents, string(c.roundTrip(t, withFields(c, values))))
		}
		for _, text := range oddJSON {
			add(map[string]string{"j": text, "note": "precious"})
			add(map[string]string{"docs": "[" + text + ",null]"})
		}
		for _, number := range []string{"0", "-1.50", "NaN", "-Infinity", strings.Repeat("9", 400), "-" + strings.Repeat("9", 131072) + ".5", "0." + strings.Repeat("0", 16382) + "1"} {
			add(map[string]string{"amount": number, "price": "12.50", "small": "-7", "ratio": "1e+300"})
			add(map[string]string{"amounts": `[null,` + quotedUnlessNumber(number) + `,[1.50]]`, "ids": `[-9223372036854775808,null]`})
		}
		add(map[string]string{"ids": `"[0:1]={5,6}"`, "amounts": `[]`, "ratio": "NaN"})
		add(map[string]string{"note": "a\"\\\n\u2028\ufffe\x7f\x00é"})
	}
	for _, doc := range documents {
		if why := strictJSON(doc); why != "" {
			t.Errorf("%s: %.200s", why, doc)
		}
		var any map[string]any
		if err := json.Unmarshal([]byte(doc), &any); err != nil || any["_v"] != someVersion.String() {
			t.Errorf("encoding/json: %v: %.200s", err, doc)
		}
	}
	foreign(t, documents, "python3", "-c", `import json, sys
for doc in sys.stdin.buffer.read().decode().split("\0"):
    value = json.loads(doc, parse_constant=lambda c: sys.exit("constant"))
    value["_v"].encode()
    json.dumps(value, ensure_ascii=False).encode()`)
	foreign(t, documents, "jq", "-e", "._v")
}

// TestDocumentTooDeep: what can't even be examined is refused, with its field.
func TestDocumentTooDeep(t *testing.T) {
	t.Parallel()
	c := documentCodec(t, "")
	_, err := c.encode(nil, nil, withFields(c, map[string]string{"j": strings.Repeat("[", 12_000) + strings.Repeat("]", 12_000)}))
	if err == nil || err.Error() != `field "j": not valid JSON, or nested deeper than 10,000` {
		t.Error(err)
	}
}

func quotedUnlessNumber(text string) string {
	if isNumber(text) {
		return text
	}
	return `"` + text + `"`
}

// foreign has another program read the documents, where the machine has it.
func foreign(t *testing.T, documents []string, name string, args ...string) {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Logf("there is no %s here", name)
		return
	}
	cmd := exec.CommandContext(t.Context(), path, args...)
	between := "\x00"
	if name == "jq" {
		between = "\n"
	}
	cmd.Stdin = strings.NewReader(strings.Join(documents, between))
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Logf("%s does not run: %v", name, err)
	} else if err != nil {
		t.Errorf("%s: %v: %.500s", name, err, out)
	}
}

// strictJSON says what of RFC 8259 and RFC 7493, or of maxDepth, a document does not keep. It
// shares no code with the codec.
func strictJSON(doc string) string {
	if !utf8.ValidString(doc) {
		return "not UTF-8"
	}
	d := json.NewDecoder(strings.NewReader(doc))
	d.UseNumber()
	type level struct {
		object, name bool
		seen         map[string]bool
	}
	var stack []*level
	for {
		token, err := d.Token()
		if err != nil {
			break
		}
		var top *level
		if len(stack) > 0 {
			top = stack[len(stack)-1]
		}
		if s, is := token.(string); is && top != nil && top.object && top.name {
			if top.seen[s] {
				return "a name comes twice"
			}
			top.seen[s], top.name = true, false
			continue
		}
		switch v := token.(type) {
		case json.Delim:
			if v == ']' || v == '}' {
				stack = stack[:len(stack)-1]
				continue
			}
			stack = append(stack, &level{object: v == '{', name: v == '{', seen: map[string]bool{}})
			if len(stack) > 64 {
				return "nested too deep"
			}
		case json.Number:
			if f, err := v.Float64(); err != nil || math.IsInf(f, 0) {
				return "a number beyond a double"
			}
		}
		if top != nil && top.object {
			top.name = true
		}
	}
	if !json.Valid([]byte(doc)) {
		return "not JSON"
	}
	for i := 0; i+6 <= len(doc); i++ {
		if doc[i] != '\\' {
			continue
		}
		if doc[i+1] != 'u' {
			i++
			continue
		}
		one, two := hexUnit(doc[i+2:]), -1
		if i+12 <= len(doc) && doc[i+6] == '\\' && doc[i+7] == 'u' {
			two = hexUnit(doc[i+8:])
		}
		switch {
		case utf16.IsSurrogate(rune(one)) && utf16.DecodeRune(rune(one), rune(two)) == utf8.RuneError:
			return "half of a surrogate pair"
		case utf16.IsSurrogate(rune(one)):
			i += 6
		}
		i += 5
	}
	return ""
}

func hexUnit(s string) int {
	n := 0
	for i := range 4 {
		n = n<<4 | strings.IndexByte("0123456789abcdef", s[i]|0x20)
	}
	return n
}

func TestNumbersAsStrings(t *testing.T) {
	t.Parallel()
	c := documentCodec(t, numbersAsStrings)
	values := map[string]string{
		"id": "9007199254740993", "small": "5", "amount": "1234567890.1234567890", "price": "1.50", "ratio": "0.1", "j": `{"n":9007199254740993}`,
		"ids": "[1,[2,null]]", "amounts": `[1.50,"NaN"]`, "docs": `[1]`,
	}
	const head = `{"_v":"00000001000000020000000000000003",`
	want := head + `"id":"9007199254740993","small":5,"amount":"1234567890.1234567890","price":"1.50","ratio":0.1,"j":{"n":9007199254740993},` +
		`"note":null,"ids":["1",["2",null]],"docs":[1],"amounts":["1.50","NaN"]}`
	if doc := c.roundTrip(t, withFields(c, values)); string(doc) != want {
		t.Errorf("got  %s\nwant %s", doc, want)
	}
	for _, doc := range []string{`"id":5`, `"id":"05"`, `"id":"x"`, `"small":"5"`, `"amount":1.5`, `"ids":[1]`, `"ids":["1",2]`} {
		var e store.Entry
		if c.decode(&e, head+doc+"}"); e.Presence != store.Damaged {
			t.Errorf("%s is read as %v", doc, e.Record)
		}
	}
	plain := documentCodec(t, "")
	for _, doc := range []string{`"id":"5"`, `"amount":"1.5"`, `"j":{"_text":"5"}`, `"j":{"_text":"{"}`, `"docs":{"_text":"[1]"}`} {
		var e store.Entry
		if plain.decode(&e, head+doc+"}"); e.Presence != store.Damaged {
			t.Errorf("%s is read as %v", doc, e.Record)
		}
	}
}

func TestCheckDocuments(t *testing.T) {
	t.Parallel()
	for _, numbers := range []string{"", numbersAsStrings} {
		target := &Target{schema: documentSchema(), codec: documentCodec(t, numbers)}
		checks := target.checkDocuments()
		want := store.Warned
		if numbers != "" {
			want = store.Good
		}
		if len(checks) != 2 || checks[0].Result != want || !strings.HasPrefix(checks[0].Detail, "columns id (bigint), amount (numeric), ids (bigint[]), amounts (numeric[]): ") {
			t.Fatalf("%q: %+v", numbers, checks)
		}
		if (numbers == "") != strings.Contains(checks[0].Hint.Text, "numbers: string") {
			t.Errorf("%q: the remedy is %q", numbers, checks[0].Hint.Text)
		}
		if checks[1].Result != store.Warned || !strings.HasPrefix(checks[1].Detail, "columns j (json), docs (json[]): ") {
			t.Errorf("%+v", checks[1])
		}
	}
	hash := &Target{schema: documentSchema(), codec: &hashCodec{}}
	if checks := hash.checkDocuments(); checks != nil {
		t.Errorf("a hash has no documents: %+v", checks)
	}
}

func TestCheckMeanings(t *testing.T) {
	t.Parallel()
	target := &Target{schema: documentSchema(), rules: []record.Rule{{Path: "/note", As: "json"}, {Path: "/id", As: "boolean"}, {Path: "/j", Show: true}}}
	if checks := target.checkMeanings(); len(checks) != 1 || checks[0].Result != store.Warned || !strings.Contains(checks[0].Detail, "/id") {
		t.Errorf("%+v", checks)
	}
}

// FuzzDocument: whatever json legacy has, its record's document comes back as it was, and others
// can read it.
func FuzzDocument(f *testing.F) {
	for _, text := range oddJSON {
		if len(text) < 1000 {
			f.Add(text, "1.50", "note")
		}
	}
	f.Add("1", strings.Repeat("9", 400), "\xff")
	plain, strings := documentCodec(f, ""), documentCodec(f, numbersAsStrings)
	f.Fuzz(func(t *testing.T, text, number, note string) {
		for _, c := range []*jsonCodec{plain, strings} {
			for _, values := range []map[string]string{{"j": text}, {"docs": "[" + text + "]"}, {"amount": number}, {"note": note}} {
				r := withFields(c, values)
				if _, err := c.encode(nil, someVersion.AppendText32(nil), r); err != nil {
					continue // refused, with its field
				}
				doc := c.roundTrip(t, r)
				if why := strictJSON(string(doc)); why != "" {
					t.Fatalf("%s: %q", why, doc)
				}
			}
		}
	})
}
