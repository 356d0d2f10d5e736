package migration

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// Outline is a structure of all keys that a migration file may have, with their
// defaults, for schemas and references. Unlike Config it has the keys of all given kinds
// of store side by side, and the kinds' names as the values of store.
func Outline(kinds ...Kind) reflect.Value {
	m := &Config{}
	m.Defaults()
	var legacy, target []Kind
	var ofLegacy, ofTarget []any
	for _, k := range kinds {
		if k.Legacy != nil {
			part := k.Legacy()
			part.Defaults()
			legacy, ofLegacy = append(legacy, k), append(ofLegacy, part)
		}
		if k.Target != nil {
			part := k.Target()
			part.Defaults()
			target, ofTarget = append(target, k), append(ofTarget, part)
		}
	}
	var o outline
	v := reflect.ValueOf(*m)
	for i := range v.NumField() {
		f, value := v.Type().Field(i), v.Field(i)
		if f.Tag.Get("yaml") == "-" {
			continue // no part of the file
		}
		switch side := value.Interface().(type) {
		case Legacy:
			value = outlineOf(reflect.ValueOf(side), legacy, ofLegacy)
		case Target:
			value = outlineOf(reflect.ValueOf(side), target, ofTarget)
		}
		o.add(f.Name, f.Tag, value)
	}
	return o.value()
}

// outlineOf is the outline of one side. If kinds share a key, the first one's tag is used.
func outlineOf(common reflect.Value, kinds []Kind, parts []any) reflect.Value {
	var o outline
	for _, f := range Fields(common.Type()) {
		o.add(f.Name, commonTag(f, kinds), common.FieldByIndex(f.Index))
	}
	var keys []string
	for _, part := range parts {
		v := reflect.ValueOf(part).Elem()
		for _, f := range Fields(v.Type()) {
			if key := KeyOf(f); !slices.Contains(keys, key) {
				keys = append(keys, key)
				o.add(f.Name, optionalTag(f, parts), v.FieldByIndex(f.Index))
			}
		}
	}
	return o.value()
}

// commonTag adds the kinds' names and the forms of their URLs.
func commonTag(f reflect.StructField, kinds []Kind) reflect.StructTag {
	schema, about := f.Tag.Get("jsonschema"), f.Tag.Get("jsonschema_description")
	var urls []string
	for _, k := range kinds {
		if f.Name == "Store" {
			schema += ",enum=" + k.Name
		}
		if k.URLs != "" {
			urls = append(urls, k.URLs)
		}
	}
	if f.Name == "URL" {
		about = strings.TrimSuffix(strings.Join(urls, ", or ")+"; "+about, "; ")
	}
	return tagOf(KeyOf(f), schema, about)
}

// optionalTag requires a key only if every kind does.
func optionalTag(f reflect.StructField, parts []any) reflect.StructTag {
	words := strings.Split(f.Tag.Get("jsonschema"), ",")
	for _, part := range parts {
		of := Fields(reflect.TypeOf(part).Elem())
		if !slices.ContainsFunc(of, func(other reflect.StructField) bool {
			return KeyOf(other) == KeyOf(f) && slices.Contains(strings.Split(other.Tag.Get("jsonschema"), ","), "required")
		}) {
			words = slices.DeleteFunc(words, func(word string) bool { return word == "required" })
		}
	}
	return tagOf(KeyOf(f), strings.Join(words, ","), f.Tag.Get("jsonschema_description"))
}

func tagOf(key, schema, about string) reflect.StructTag {
	return reflect.StructTag(fmt.Sprintf("yaml:%q json:%q jsonschema:%q jsonschema_description:%q", key, key, schema, about))
}

// outline builds a structure type with its values.
type outline struct {
	fields []reflect.StructField
	values []reflect.Value
}

func (o *outline) add(name string, tag reflect.StructTag, v reflect.Value) {
	for slices.ContainsFunc(o.fields, func(f reflect.StructField) bool { return f.Name == name }) {
		name += "_" // another kind's key, whose field has the same name
	}
	o.fields = append(o.fields, reflect.StructField{Name: name, Type: v.Type(), Tag: tag})
	o.values = append(o.values, v)
}

func (o *outline) value() reflect.Value {
	v := reflect.New(reflect.StructOf(o.fields)).Elem()
	for i, value := range o.values {
		v.Field(i).Set(value)
	}
	return v
}
