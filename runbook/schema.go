package runbook

import (
	"bytes"
	"encoding/json"

	"github.com/invopop/jsonschema"

	"github.com/stranglerfig/migrator/internal/configschema"
)

//go:generate go run ../internal/configschema/gen -runbook ../configs/runbook.schema.json

// Schema is the JSON Schema (draft 2020-12) of what a runbook says besides prose and
// commands: its front matter, and the attributes of its steps by their names.
func Schema() ([]byte, error) {
	r := &jsonschema.Reflector{
		FieldNameTag: "yaml", RequiredFromJSONSchemaTags: true,
		Anonymous: true, ExpandedStruct: true, DoNotReference: true, Mapper: configschema.SchemaOf,
	}
	s := r.Reflect(&Front{})
	s.Title = "migrator: a runbook's front matter"
	s.Description = "The YAML between the lines --- at the beginning of a runbook. $defs/attributes describes what stands in the braces behind a step's language"
	attributes := r.Reflect(&Attributes{})
	attributes.Version = ""
	attributes.Title = "key=value in {#id .kind key=value}; id: " + stepID.String()
	s.Definitions = jsonschema.Definitions{"attributes": attributes, "kind": &jsonschema.Schema{Type: "string", Enum: enum()}}
	var out bytes.Buffer
	w := json.NewEncoder(&out)
	w.SetEscapeHTML(false)
	w.SetIndent("", "  ")
	err := w.Encode(s)
	return out.Bytes(), err
}

func enum() (list []any) {
	for _, k := range kinds {
		list = append(list, k)
	}
	return list
}
