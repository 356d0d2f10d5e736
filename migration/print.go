package migration

import (
	"bytes"
	"encoding"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/stranglerfig/migrator/phases"
)

// Show writes the migration file as YAML, with every default, without empty settings, and
// with URLs without passwords. Parse reads it back, except for those.
func Show(m *Config) ([]byte, error) {
	shown := Redacted(m)
	if m.Legacy.URLFile != "" {
		shown.Legacy.URL = ""
	}
	if m.Target.URLFile != "" {
		shown.Target.URL = ""
	}
	if m.Prometheus.URLFile != "" {
		shown.Prometheus.URL = ""
	}
	for i, w := range m.Webhooks {
		if w.URLFile != "" {
			shown.Webhooks[i].URL = ""
		}
	}
	root, err := encode(reflect.ValueOf(*shown))
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	w := yaml.NewEncoder(&out)
	w.SetIndent(2)
	if err := w.Encode(root); err != nil {
		return nil, err
	}
	return out.Bytes(), w.Close()
}

// encode is the YAML node of a value; nil if it is not shown.
func encode(v reflect.Value) (*yaml.Node, error) {
	if s, ok := v.Interface().(phases.Shadow); ok {
		p, set := s.Percent()
		if !set {
			return nil, nil
		}
		return encode(reflect.ValueOf(p))
	}
	if p, ok := v.Interface().(phases.Percent); ok {
		if p%100 == 0 {
			return plain("!!int", p.String()), nil
		}
		return plain("!!float", p.String()), nil
	}
	if text, ok := v.Interface().(encoding.TextMarshaler); ok && v.Kind() != reflect.Pointer {
		raw, err := text.MarshalText()
		return plain("!!str", string(raw)), err
	}
	switch v.Kind() {
	case reflect.Struct:
		return encodeStruct(v)
	case reflect.Slice:
		return encodeList(v)
	case reflect.Pointer:
		if v.IsNil() {
			return nil, nil
		}
		return encode(v.Elem())
	case reflect.Map:
		return encodeTexts(v), nil
	case reflect.Float64:
		text := strconv.FormatFloat(v.Float(), 'f', -1, 64)
		if !strings.Contains(text, ".") {
			return plain("!!int", text), nil
		}
		return plain("!!float", text), nil
	case reflect.Int:
		return plain("!!int", strconv.FormatInt(v.Int(), 10)), nil
	case reflect.Bool:
		return plain("!!bool", strconv.FormatBool(v.Bool())), nil
	default:
		if v.String() == "" {
			return nil, nil
		}
		return plain("!!str", unexpanded(v.String())), nil
	}
}

func plain(tag, value string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: tag, Value: value}
}

func encodeStruct(v reflect.Value) (*yaml.Node, error) {
	n := &yaml.Node{Kind: yaml.MappingNode}
	if err := encodeFields(n, v); err != nil {
		return nil, err
	}
	var part any
	switch side := v.Interface().(type) {
	case Legacy:
		part = side.Part
	case Target:
		part = side.Part
	}
	if !isNil(part) {
		if err := encodeFields(n, reflect.ValueOf(part).Elem()); err != nil {
			return nil, err
		}
	}
	if len(n.Content) == 0 {
		return nil, nil
	}
	return n, nil
}

func encodeFields(n *yaml.Node, v reflect.Value) error {
	for _, f := range Fields(v.Type()) {
		field := v.FieldByIndex(f.Index)
		if !isShown(f.Name, field) {
			continue
		}
		value, err := encode(field)
		if err != nil {
			return err
		}
		if value != nil {
			n.Content = append(n.Content, plain("!!str", KeyOf(f)), value)
		}
	}
	return nil
}

// encodeTexts is the node of a mapping of texts; nil for an empty one.
func encodeTexts(v reflect.Value) *yaml.Node {
	if v.Len() == 0 {
		return nil
	}
	n := &yaml.Node{Kind: yaml.MappingNode}
	texts, _ := v.Interface().(map[string]string)
	for _, key := range slices.Sorted(maps.Keys(texts)) {
		n.Content = append(n.Content, plain("!!str", key), plain("!!str", unexpanded(texts[key])))
	}
	return n
}

// isShown is false for a comparison rule's zeros: they mean that the rule has no such part.
func isShown(name string, v reflect.Value) bool {
	return name != "Precision" && name != "Show" || !v.IsZero()
}

func encodeList(v reflect.Value) (*yaml.Node, error) {
	if v.IsNil() {
		return nil, nil
	}
	n := &yaml.Node{Kind: yaml.SequenceNode}
	for i := range v.Len() {
		item, err := encode(v.Index(i))
		if err != nil {
			return nil, err
		}
		if item != nil {
			n.Content = append(n.Content, item)
		}
		if v.Index(i).Kind() != reflect.Struct {
			n.Style = yaml.FlowStyle
		}
	}
	if v.Len() == 0 {
		n.Style = yaml.FlowStyle
	}
	return n, nil
}
