package migration

import (
	"encoding"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// decoder fills Go values from YAML nodes. Unlike yaml's own it continues after an
// error, keeps the line of each, and replaces ${...} within parsed texts, so that a
// variable's value can't change the document's structure.
type decoder struct {
	*problems
	getenv func(string) (string, bool)
	kinds  []Kind
}

// decode fills v from n; what n does not mention keeps its value.
func (d *decoder) decode(n *yaml.Node, v reflect.Value, path string) {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" {
		return
	}
	if text, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		if s, _, ok := d.scalar(n, path); ok {
			if err := text.UnmarshalText([]byte(s)); err != nil {
				d.add(n.Line, path, path+": "+err.Error())
			}
		}
		return
	}
	switch side := v.Addr().Interface().(type) {
	case *Legacy:
		d.legacy(n, side, path)
		return
	case *Target:
		d.target(n, side, path)
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		d.mapping(n, v, path)
	case reflect.Slice:
		d.list(n, v, path)
	case reflect.Map:
		d.texts(n, v, path)
	case reflect.Pointer:
		fresh := reflect.New(v.Type().Elem())
		d.decode(n, fresh.Elem(), path)
		v.Set(fresh)
	default:
		d.plain(n, v, path)
	}
}

// scalar returns the expanded text of a single value.
func (d *decoder) scalar(n *yaml.Node, path string) (text string, used, ok bool) {
	if n.Kind != yaml.ScalarNode {
		d.add(n.Line, path, fmt.Sprintf("%s: want a single value, not a %s", path, nodeKind(n)))
		return "", false, false
	}
	if n.ShortTag() != "!!str" {
		return n.Value, false, true
	}
	text, used, err := expand(n.Value, d.getenv)
	if err != nil {
		d.add(n.Line, path, path+": "+err.Error())
		return "", used, false
	}
	if used && text != n.Value && text != "" {
		d.expanded[path] = append(d.expanded[path], taint{n.Value, text})
	}
	return text, used, true
}

func nodeKind(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "mapping"
	case yaml.SequenceNode:
		return "list"
	default:
		return "single value"
	}
}

func (d *decoder) plain(n *yaml.Node, v reflect.Value, path string) {
	s, used, ok := d.scalar(n, path)
	if !ok {
		return
	}
	tag := n.ShortTag()
	switch v.Kind() {
	case reflect.String:
		if tag == "!!bool" || tag == "!!binary" {
			d.add(n.Line, path, fmt.Sprintf("%s: want text; put %s in quotes", path, n.Value))
			return
		}
		v.SetString(s)
	case reflect.Int:
		i, err := strconv.Atoi(strings.ReplaceAll(s, "_", ""))
		octal := len(s) > 1 && s[0] == '0'
		if err != nil || octal || tag != "!!int" && !used {
			d.add(n.Line, path, fmt.Sprintf("%s: want a whole number, not %q", path, s))
			return
		}
		v.SetInt(int64(i))
	case reflect.Float64:
		f, err := strconv.ParseFloat(strings.ReplaceAll(s, "_", ""), 64)
		if err != nil || math.IsNaN(f) || math.IsInf(f, 0) || tag != "!!int" && tag != "!!float" && !used {
			d.add(n.Line, path, fmt.Sprintf("%s: want a number, not %q", path, s))
			return
		}
		v.SetFloat(f)
	case reflect.Bool:
		if s != "true" && s != "false" || tag != "!!bool" && !used {
			d.add(n.Line, path, fmt.Sprintf("%s: want true or false, not %q", path, s))
			return
		}
		v.SetBool(s == "true")
	default:
		d.add(n.Line, path, fmt.Sprintf("%s: a %s can't be set", path, v.Type()))
	}
}

func (d *decoder) list(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.SequenceNode {
		d.add(n.Line, path, fmt.Sprintf("%s: want a list, such as [a, b], not a %s", path, nodeKind(n)))
		return
	}
	items := reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content))
	for i, item := range n.Content {
		at := fmt.Sprintf("%s[%d]", path, i)
		d.lines[at] = item.Line
		if item.Kind == yaml.ScalarNode && item.ShortTag() == "!!null" {
			d.add(item.Line, at, at+" is empty")
			continue
		}
		d.decode(item, items.Index(i), at)
	}
	v.Set(items)
}

func (d *decoder) mapping(n *yaml.Node, v reflect.Value, path string) {
	known, fields := keysOf(v)
	d.keys(n, path, known, fields)
}

// keysOf are the keys of a structure, in order, and its fields by them.
func keysOf(v reflect.Value) (known []string, fields map[string]reflect.Value) {
	fields = map[string]reflect.Value{}
	for _, f := range Fields(v.Type()) {
		known = append(known, KeyOf(f))
		fields[KeyOf(f)] = v.FieldByIndex(f.Index)
	}
	return known, fields
}

// keys fills the fields that a mapping names.
func (d *decoder) keys(n *yaml.Node, path string, known []string, fields map[string]reflect.Value) {
	if n.Kind != yaml.MappingNode {
		at := path
		if at == "" {
			at = "the migration file"
		}
		d.add(n.Line, path, fmt.Sprintf("%s: want a mapping (key: value), not a %s", at, nodeKind(n)))
		return
	}
	first := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		at := key.Value
		if path != "" {
			at = path + "." + key.Value
		}
		field, ok := fields[key.Value]
		switch line, again := first[key.Value]; {
		case key.Kind != yaml.ScalarNode || !ok:
			d.add(key.Line, at, unknownKey(key, path, known))
		case again:
			d.add(key.Line, at, fmt.Sprintf("%s is given twice, first on line %d", at, line))
		default:
			first[key.Value], d.lines[at] = key.Line, key.Line
			d.decode(value, field, at)
		}
	}
}

// texts reads a mapping of texts with arbitrary keys.
func (d *decoder) texts(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.MappingNode {
		d.add(n.Line, path, fmt.Sprintf("%s: want a mapping (key: value), not a %s", path, nodeKind(n)))
		return
	}
	read := map[string]string{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		at := path + "." + key.Value
		if _, again := read[key.Value]; again || key.Kind != yaml.ScalarNode {
			d.add(key.Line, at, at+": want each key once, as a single value")
			continue
		}
		d.lines[at] = key.Line
		var text string
		d.plain(value, reflect.ValueOf(&text).Elem(), at)
		read[key.Value] = text
	}
	v.Set(reflect.ValueOf(read))
}

// Fields are the keys of a section of the migration file, including those of embedded
// structures.
func Fields(section reflect.Type) []reflect.StructField {
	return slices.DeleteFunc(reflect.VisibleFields(section), func(f reflect.StructField) bool {
		return f.Anonymous || !f.IsExported() || f.Tag.Get("yaml") == "-"
	})
}

// KeyOf is a field's key in YAML. Every field has one.
func KeyOf(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
	return name
}

func unknownKey(key *yaml.Node, path string, known []string) string {
	message := fmt.Sprintf("unknown key %q", key.Value)
	if key.Kind != yaml.ScalarNode {
		message = "a key must be a single value"
	}
	if path != "" {
		message += " under " + path
	}
	if near := suggest(key.Value, known); near != "" {
		return fmt.Sprintf("%s: did you mean %q?", message, near)
	}
	return message + "; the keys are " + strings.Join(known, ", ")
}
