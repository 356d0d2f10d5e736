package badinput

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

func sorted(all map[string]string) []string { return slices.Sorted(maps.Keys(all)) }

// validate is a case about a migration file.
func validate(name, text string, sure bool) Case {
	return Case{
		Name: name, Args: []string{"config", "validate", "-f", Path("bad.yaml")}, Files: []File{{Name: "bad.yaml", Text: text}}, Sure: sure, Where: Path("bad.yaml"),
		Env: map[string]string{"LEGACY_URL": "postgres://a:" + Secret + "@127.0.0.1:1/x"},
	}
}

// document is a good migration file, parsed.
func (g *Generator) document() (name string, root *yaml.Node) {
	name, text := one(g, g.w.Configs)
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(text), &doc); err != nil {
		panic(fmt.Sprintf("%s: %v", name, err))
	}
	return name, doc.Content[0]
}

func written(n *yaml.Node) string {
	text, err := yaml.Marshal(n)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// place is a key and its value in a document.
type place struct {
	in   *yaml.Node
	at   int // of the key in in.Content
	path string
}

func places(n *yaml.Node, path string) (found []place) {
	if n.Kind != yaml.MappingNode {
		for _, c := range n.Content {
			found = append(found, places(c, path+"[]")...)
		}
		return found
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		at := strings.TrimPrefix(path+"."+n.Content[i].Value, ".")
		if at == "reconcile.columns" || strings.HasSuffix(at, "labels") || strings.HasSuffix(at, ".values") {
			continue // keys of the user's
		}
		found = append(found, place{n, i, at})
		found = append(found, places(n.Content[i+1], at)...)
	}
	return found
}

// oddText is an odd text that YAML can hold.
func (g *Generator) oddText() string { return strings.ToValidUTF8(g.odd(), "\ufffd") }

// badKey: unknown, misspelled, in the wrong place, given twice.
func (g *Generator) badKey() Case {
	name, root := g.document()
	p := pick(g, places(root, "")...)
	key, value := p.in.Content[p.at], p.in.Content[p.at+1]
	how := ""
	switch g.IntN(5) {
	case 0:
		how = "twice"
		p.in.Content = append(p.in.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: key.Value}, value)
	case 1:
		how = "misspelled"
		at := g.IntN(len(key.Value))
		key.Value = key.Value[:at] + pick(g, "x", "_", "-", " ", "é", "\u200b") + key.Value[at:]
	case 2:
		how = "elsewhere"
		p.in.Content = append(p.in.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: "shadow_write"}, &yaml.Node{Kind: yaml.ScalarNode, Value: "shadow_write"})
		if p.in.Content[0].Value == "shadow_write" || strings.HasPrefix(p.path, "phases.") {
			p.in.Content[len(p.in.Content)-2].Value = "table_name"
		}
	case 3:
		how = "odd"
		key.Value = g.oddText() + "?"
	default:
		how = "a list for a key"
		p.in.Content[p.at] = &yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle, Content: []*yaml.Node{{Kind: yaml.ScalarNode, Value: "a"}}}
	}
	return validate(fmt.Sprintf("%s: %s %s", name, p.path, how), written(root), true)
}

// badValue: of another type, out of range, odd.
func (g *Generator) badValue() Case {
	name, root := g.document()
	p := pick(g, places(root, "")...)
	old := p.in.Content[p.at+1]
	how := ""
	sure := false
	scalar := func(text string, style yaml.Style) *yaml.Node {
		return &yaml.Node{Kind: yaml.ScalarNode, Value: text, Style: style}
	}
	switch g.IntN(4) {
	case 0:
		how, sure = "another type", true
		if old.Kind == yaml.ScalarNode {
			p.in.Content[p.at+1] = &yaml.Node{Kind: yaml.MappingNode, Content: []*yaml.Node{scalar("zzz", 0), scalar("1", 0)}}
		} else {
			p.in.Content[p.at+1] = scalar("12:zz", 0)
		}
		if p.path == "phases.approval.for" || strings.HasSuffix(p.path, ".off") {
			sure = false
		}
	case 1:
		how = "odd"
		p.in.Content[p.at+1] = scalar(g.oddText(), yaml.DoubleQuotedStyle)
	case 2:
		how = "a number"
		p.in.Content[p.at+1] = scalar(pick(g, "-1", "0", "1e309", ".nan", "-.inf", "99999999999999999999", "0x7fffffffffffffff", "1_000_000_000_000", "0o17", "1.5", "-0"), 0)
	default:
		how = "an item more"
		old.Content = append(old.Content, scalar(g.oddText(), yaml.DoubleQuotedStyle))
		if old.Kind == yaml.MappingNode {
			old.Content = append(old.Content, scalar("x", 0))
		}
		if old.Kind == yaml.ScalarNode {
			old.Content = nil
			old.Value, old.Style = old.Value+g.oddText(), yaml.DoubleQuotedStyle
		}
	}
	return validate(fmt.Sprintf("%s: %s %s", name, p.path, how), written(root), sure)
}

// badBytes: characters that are dropped, doubled, replaced.
func (g *Generator) badBytes() Case {
	name, text := one(g, g.w.Configs)
	b := []byte(text)
	how := ""
	for range 1 + g.IntN(4) {
		at := g.IntN(len(b))
		switch g.IntN(6) {
		case 0:
			b = append(b[:at], b[min(at+1+g.IntN(8), len(b)):]...)
		case 1:
			b[at] = byte(g.IntN(256))
		case 2:
			b = slices.Insert(b, at, []byte(g.odd())...)
		case 3:
			b = slices.Insert(b, at, pick(g, byte('\t'), '\x00', '\r', ':', '&', '*', '!', '%', '@', '`', '{', '[', '#', '|', '>', '?', '-', 0x85, 0xff))
		case 4:
			end := min(at+1+g.IntN(60), len(b))
			b = slices.Insert(b, end, slices.Clone(b[at:end])...)
		default:
			b = b[:at+1]
		}
		if len(b) == 0 {
			b = []byte(" ")
		}
		how += fmt.Sprint(" ", at)
	}
	return validate(name+": bytes at"+how, string(b), false)
}

// badShape: what is no migration file at all.
func (g *Generator) badShape() Case {
	name, good := one(g, g.w.Configs)
	n := 1 + g.IntN(12)
	shapes := []struct {
		name, text string
		sure       bool
	}{
		{"empty", "", true},
		{"blanks", strings.Repeat(" \n", n), true},
		{"null", "~", true},
		{"a comment", "# " + strings.Repeat("x", n), true},
		{"a text", "hello" + strings.Repeat("x", n*1000), true},
		{"a list", "[" + strings.Repeat("a,", n) + "b]", true},
		{"JSON that ends", `{"name": "x", "legacy": {"store": ` + strings.Repeat("[", n), true},
		{"deep lists", "name: " + strings.Repeat("[", n*1000) + strings.Repeat("]", n*1000), true},
		{"deep mappings", "name: " + strings.Repeat("{a: ", n*1000) + strings.Repeat("}", n*1000), true},
		{"deep blocks", strings.Repeat("- ", n*1000) + "x", true},
		{"a bomb of aliases", bomb(n), true},
		{"an alias of itself", "name: &a [*a]\n", true},
		{"a mapping of itself", "legacy: &a {store: *a}\n", true},
		{"an alias of nothing", "name: *nobody\n", true},
		{"a merge of itself", "legacy: &a {<<: *a}\n", true},
		{"a merge", "x: &a {table: t}\nlegacy: {<<: *a}\n", true},
		{"many keys", manyKeys(n * 500), true},
		{"many aliases", "name: &a x\nexclude: [" + strings.Repeat("*a, ", n*500) + "]\n", true},
		{"a large scalar", "name: " + strings.Repeat("n", n*50_000), true},
		{"a large key", strings.Repeat("k", n*50_000) + ": 1", true},
		{"more than fits", good + "#" + strings.Repeat("x", 1<<20), true},
		{"two documents", good + "\n---\n" + good, true},
		{"a second document after its end", good + "\n...\nx\n", true},
		{"a byte order mark", "\ufeff" + good, false},
		{"CRLF", strings.ReplaceAll(good, "\n", "\r\n"), false},
		{"CR", strings.ReplaceAll(good, "\n", "\r"), false},
		{"UTF-16", utf16(good), false},
		{"Latin-1", "name: Zo\xeb\n" + good, true},
		{"NUL", good + "\x00", true},
		{"NULs", strings.Repeat("\x00", n*1000), true},
		{"a tab", strings.Replace(good, "\n  ", "\n\t", n), false},
		{"bidi", "name: \u202eabc\n", true},
		{"a tag", "name: !!python/object:os.system x\n" + good, true},
		{"a binary", "name: !!binary aGVsbG8=\n", true},
		{"a time", "name: 2001-01-01\n", true},
		{"a directive", "%YAML 9.9\n---\n" + good, true},
		{"a cut-off", good[:len(good)*g.IntN(90)/100], false},
		{"HTML", "<!DOCTYPE html><title>Sign in</title>", true},
		{"a private key", "-----BEGIN PRIVATE KEY-----\n" + Secret + "\n-----END PRIVATE KEY-----\n", true},
		{"a variable that is not set", good + "\nlegacy: {url: ${NOWHERE}}\n", true},
		{"an open variable", good + "\nlegacy: {url: \"${OPEN\"}\n", true},
		{"a URL in the wrong place", "name: postgres://a:" + Secret + "@h/d\n", true},
	}
	s := shapes[g.IntN(len(shapes))]
	return validate(name+": "+s.name, s.text, s.sure)
}

// bomb is a text of a few lines that would expand to 10^n items.
func bomb(n int) string {
	b := strings.Builder{}
	b.WriteString("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n")
	for i := range n {
		fmt.Fprintf(&b, "a%d: &a%d [%s*a%d]\n", i+1, i+1, strings.Repeat(fmt.Sprintf("*a%d, ", i), 9), i)
	}
	fmt.Fprintf(&b, "exclude: *a%d\nphases: *a%d\n", n, n)
	return b.String()
}

func manyKeys(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "key%d: x\n", i)
	}
	return b.String()
}

func utf16(text string) string {
	b := []byte{0xff, 0xfe}
	for _, r := range text {
		b = append(b, byte(r), byte(r>>8))
	}
	return string(b)
}
