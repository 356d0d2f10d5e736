package configschema

import (
	"bytes"
	"encoding/json"

	"github.com/invopop/jsonschema"

	"github.com/stranglerfig/migrator/runbook"
)

//go:generate go run ./gen -runbook ../../configs/runbook.schema.json

// Runbook is the JSON Schema (draft 2020-12) of a runbook's front matter, and of the
// attributes of its steps by their names.
func Runbook() ([]byte, error) {
	r := &jsonschema.Reflector{
		FieldNameTag: "yaml", RequiredFromJSONSchemaTags: true,
		Anonymous: true, ExpandedStruct: true, DoNotReference: true, Mapper: SchemaOf,
	}
	s := r.Reflect(&runbook.Front{})
	s.Title = "migrator: a runbook's front matter"
	s.Description = "The YAML between the lines --- at the beginning of a runbook. $defs/attributes describes the attributes in the braces after a step's language"
	attributes := r.Reflect(&runbook.Attributes{})
	attributes.Version = ""
	attributes.Title = "key=value in {#id .kind key=value}; id: " + runbook.StepID.String()
	s.Definitions = jsonschema.Definitions{"attributes": attributes, "kind": &jsonschema.Schema{Type: "string", Enum: enum()}}
	var out bytes.Buffer
	w := json.NewEncoder(&out)
	w.SetEscapeHTML(false)
	w.SetIndent("", "  ")
	err := w.Encode(s)
	return out.Bytes(), err
}

func enum() (list []any) {
	for _, k := range runbook.Kinds {
		list = append(list, k)
	}
	return list
}
