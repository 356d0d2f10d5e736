// Package configschema writes the JSON Schemas of migration files and of runbooks,
// for editors.
package configschema

import (
	"bytes"
	"encoding/json"
	"reflect"

	"github.com/invopop/jsonschema"

	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
)

//go:generate go run ./gen ../../configs/migration.schema.json

// Migration is the JSON Schema (draft 2020-12) of migration files, for editors. It has
// every key with its default. It accepts ${...} wherever Parse does, and leaves to Parse
// the checks that need two settings. kinds are the stores that a migration file may name.
func Migration(kinds ...migration.Kind) ([]byte, error) {
	r := &jsonschema.Reflector{
		FieldNameTag: "yaml", RequiredFromJSONSchemaTags: true,
		Anonymous: true, ExpandedStruct: true, DoNotReference: true,
		Mapper: SchemaOf,
	}
	outline := migration.Outline(kinds...)
	s := r.ReflectFromType(outline.Type())
	s.Title = "migrator: a migration file"
	s.Description = "What is moved, from where to where, how two records are compared, and the settings of the phases"
	describe(s, outline)
	var out bytes.Buffer
	w := json.NewEncoder(&out)
	w.SetEscapeHTML(false)
	w.SetIndent("", "  ")
	err := w.Encode(s)
	return out.Bytes(), err
}

const variablePattern = `\$\{`

// SchemaOf is the schema of a type with its own text form; nil for all others.
func SchemaOf(t reflect.Type) *jsonschema.Schema {
	switch t {
	case reflect.TypeFor[phases.Duration]():
		return &jsonschema.Schema{Type: "string", Pattern: `^([0-9]+d)?([0-9]+(\.[0-9]*)?(h|m|s|ms|us|µs|ns))*$|` + variablePattern}
	case reflect.TypeFor[record.Precision]():
		return &jsonschema.Schema{Type: "string", Pattern: `^([0-9]+(\.[0-9]*)?(h|m|s|ms|us|µs))+$|` + variablePattern}
	case reflect.TypeFor[phases.Percent]():
		return &jsonschema.Schema{Type: "number", ExclusiveMinimum: "0", Maximum: "100"}
	case reflect.TypeFor[phases.Shadow]():
		return &jsonschema.Schema{Type: "number", Minimum: "0", Maximum: "100"}
	case reflect.TypeFor[phases.Size]():
		return &jsonschema.Schema{Type: "string", Pattern: `^[0-9]+ ?([KMGT]i)?B$|` + variablePattern}
	case reflect.TypeFor[phases.Share]():
		return &jsonschema.Schema{Type: "string", Pattern: `^[0-9]+(\.[0-9]*)? ?%$|` + variablePattern}
	case reflect.TypeFor[phases.Phase]():
		s := &jsonschema.Schema{Type: "string"}
		for _, p := range phases.Order {
			s.Enum = append(s.Enum, string(p))
		}
		return s
	}
	return nil
}

// describe adds the defaults, and the texts with variables that are accepted instead.
func describe(s *jsonschema.Schema, v reflect.Value) {
	for v.Kind() == reflect.Pointer && !v.IsNil() {
		v = v.Elem()
	}
	if s.Properties != nil && v.Kind() == reflect.Struct {
		for _, f := range migration.Fields(v.Type()) {
			key := migration.KeyOf(f)
			property, ok := s.Properties.Get(key)
			if !ok {
				continue
			}
			describe(property, v.FieldByIndex(f.Index))
			if key == "tolerance" {
				addAlternative(property, &jsonschema.Schema{Type: "number"})
			}
		}
		return
	}
	if s.Items != nil {
		describe(s.Items, reflect.Zero(v.Type().Elem()))
	}
	if !v.IsZero() {
		s.Default = v.Interface()
	}
	if s.Type == "integer" || s.Type == "number" || s.Type == "boolean" {
		addAlternative(s, &jsonschema.Schema{Type: "string", Pattern: variablePattern})
	}
}

// addAlternative makes a schema accept other too. Its description and default stay.
func addAlternative(s, other *jsonschema.Schema) {
	own := &jsonschema.Schema{Type: s.Type, Minimum: s.Minimum, ExclusiveMinimum: s.ExclusiveMinimum, Maximum: s.Maximum, Pattern: s.Pattern}
	s.Type, s.Minimum, s.ExclusiveMinimum, s.Maximum, s.Pattern = "", "", "", "", ""
	s.AnyOf = []*jsonschema.Schema{own, other}
}
