package migration

import (
	"reflect"
	"slices"

	"go.yaml.in/yaml/v3"
)

// misplacedKey is a given key that belongs to another kind of store than the side's.
type misplacedKey struct {
	side, key string
	kind      string // the kind that has such a key
}

// part is the part of one kind, to be decoded into.
type part struct {
	kind string
	of   any // a pointer to a structure
}

func (d *decoder) legacy(n *yaml.Node, l *Legacy, path string) {
	var parts []part
	for _, k := range d.kinds {
		if k.Legacy != nil {
			parts = append(parts, part{k.Name, k.Legacy()})
		}
	}
	if own := d.side(n, reflect.ValueOf(l).Elem(), path, parts); own != nil {
		l.Part, _ = own.(LegacyPart)
	}
}

func (d *decoder) target(n *yaml.Node, t *Target, path string) {
	var parts []part
	for _, k := range d.kinds {
		if k.Target != nil {
			parts = append(parts, part{k.Name, k.Target()})
		}
	}
	if own := d.side(n, reflect.ValueOf(t).Elem(), path, parts); own != nil {
		t.Part, _ = own.(TargetPart)
	}
}

// side decodes the common keys, and those of the named store, whose part it returns; nil
// if no such kind was given. It decodes the keys of the other kinds too, and records them
// as misplaced.
func (d *decoder) side(n *yaml.Node, common reflect.Value, path string, parts []part) any {
	known, fields := keysOf(common)
	kind := d.storeOf(n)
	var own any
	owner := map[string]string{}
	for _, p := range parts {
		keys, values := keysOf(reflect.ValueOf(p.of).Elem())
		if p.kind == kind {
			own = p.of
		}
		for _, key := range keys {
			if _, taken := fields[key]; taken && p.kind != kind {
				continue
			}
			if !slices.Contains(known, key) {
				known = append(known, key)
			}
			fields[key], owner[key] = values[key], p.kind
		}
	}
	d.keys(n, path, known, fields)
	for _, key := range known {
		if of, ok := owner[key]; ok && of != kind && own != nil && !fields[key].IsZero() {
			d.foreign = append(d.foreign, misplacedKey{path, key, of})
		}
	}
	return own
}

// storeOf is the store that a side names; "" if that can't be read, which is reported
// when the key itself is decoded.
func (d *decoder) storeOf(n *yaml.Node) string {
	if n.Kind != yaml.MappingNode {
		return ""
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		value := n.Content[i+1]
		for value.Kind == yaml.AliasNode {
			value = value.Alias
		}
		if n.Content[i].Value == "store" && value.Kind == yaml.ScalarNode {
			text, _, _ := expand(value.Value, d.getenv)
			return text
		}
	}
	return ""
}
