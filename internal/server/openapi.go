package server

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/invopop/jsonschema"

	"github.com/stranglerfig/migrator/phases"
)

// schemaOf is the schema of a type with a text or a number of its own; nil for all others.
func schemaOf(t reflect.Type) *jsonschema.Schema {
	switch t {
	case reflect.TypeFor[phases.Percent](), reflect.TypeFor[phases.Shadow]():
		return &jsonschema.Schema{Type: "number", Minimum: "0", Maximum: "100"}
	case reflect.TypeFor[phases.Phase]():
		s := &jsonschema.Schema{Type: "string"}
		for _, p := range phases.Order {
			s.Enum = append(s.Enum, string(p))
		}
		return s
	case reflect.TypeFor[Code]():
		s := &jsonschema.Schema{Type: "string"}
		for _, c := range codes {
			s.Enum = append(s.Enum, string(c.code))
		}
		return s
	}
	if text, ok := reflect.Zero(t).Interface().(interface{ Pattern() string }); ok {
		return &jsonschema.Schema{Type: "string", Pattern: text.Pattern()}
	}
	if t == reflect.TypeFor[json.RawMessage]() {
		return &jsonschema.Schema{Type: "object"}
	}
	return nil
}

// schemas are those of the types of all endpoints, by name.
type schemas map[string]json.RawMessage

// nameOf is the name of a type's schema: the type's, but where two packages have one.
func nameOf(t reflect.Type) string {
	if t == reflect.TypeFor[phases.Status]() {
		return "MigrationStatus"
	}
	return t.Name()
}

// schemasOf are those of endpoints, and of Problem. A request has no other members; an answer may get more.
func schemasOf(list []Endpoint) (schemas, error) {
	s := schemas{}
	answers, requests := []reflect.Type{reflect.TypeFor[Problem]()}, []reflect.Type{}
	for _, e := range list {
		if e.answer != nil {
			answers = append(answers, e.answer)
		}
		if e.request != nil {
			requests = append(requests, e.request)
		}
	}
	for _, t := range answers {
		if err := s.add(t, true); err != nil {
			return nil, err
		}
	}
	open := maps.Clone(s)
	for _, t := range requests {
		if err := s.add(t, false); err != nil {
			return nil, err
		}
	}
	maps.Copy(s, open) // what is in both
	return s, nil
}

// add adds a type with those that it is made of.
func (s schemas) add(t reflect.Type, more bool) error {
	named, twice := map[string]reflect.Type{}, ""
	r := &jsonschema.Reflector{Anonymous: true, Mapper: schemaOf, AllowAdditionalProperties: more, Namer: func(t reflect.Type) string {
		name := nameOf(t)
		if other, taken := named[name]; taken && other != t && name != "" {
			twice = fmt.Sprintf("%s and %s", other, t)
		}
		named[name] = t
		return name
	}}
	defined := r.ReflectFromType(t).Definitions
	if twice != "" {
		return fmt.Errorf("two types of the HTTP API have one name: %s", twice)
	}
	for name, one := range defined {
		one.Version = ""
		describeRoute(name, one)
		text, err := json.Marshal(one)
		if err != nil {
			return err
		}
		text = bytes.ReplaceAll(text, []byte(`"#/$defs/`), []byte(`"#/components/schemas/`))
		if other, taken := s[name]; more && taken && !bytes.Equal(other, text) {
			return fmt.Errorf("two types of the HTTP API have the name %s", name)
		}
		s[name] = text
	}
	return nil
}

func ref(t reflect.Type) map[string]string {
	return map[string]string{"$ref": "#/components/schemas/" + nameOf(t)}
}

// describeRoute describes the members of a type that is an application's too.
func describeRoute(name string, s *jsonschema.Schema) {
	if name != reflect.TypeFor[phases.Route]().Name() {
		return
	}
	for key, text := range map[string]string{
		"phase": "see docs/protocol.md", "percent": "in dual-read: of reads that are compared; in cutover: of keys whose reads the target serves; else 0",
		"epoch": "goes up with each change of the route", "shadow": "in cutover and grace: of reads that are compared; absent: each application's own share",
	} {
		if property, ok := s.Properties.Get(key); ok {
			property.Description = text
		}
	}
}

// always are the codes that every endpoint may answer with.
var always = []Code{BadToken, BadOrigin, NoGrant, UnknownMigration, TooMany, Internal, Misconfigured, NotReady, Overloaded, StateUnreachable}

// problems are all codes of an endpoint.
func (e Endpoint) problems() []Code {
	all := append(slices.Clone(e.Errors), always...)
	if e.stream {
		all = slices.DeleteFunc(all, func(c Code) bool { return c == NoGrant || c == Internal || c == Misconfigured || c == Overloaded })
	}
	if e.request != nil {
		all = append(all, BadJSON, BadRequest, BodyTooLarge, BadMediaType)
	}
	return all
}

var aParameter = regexp.MustCompile(`\{([a-z]+)\}`)

// parameters describe the parameters of paths.
var parameters = map[string]string{
	"migration": "the migration's name",
	"id":        "the lease's ID, as Join returned it",
	"run":       "the run's number",
	"key":       "the record's key: its bytes as base64url without padding; the empty key is =",
}

// Document is the OpenAPI 3.1 document of endpoints.
func Document(list []Endpoint) ([]byte, error) {
	defined, err := schemasOf(list)
	if err != nil {
		return nil, err
	}
	paths := map[string]map[string]any{}
	for _, e := range list {
		o := map[string]any{
			"operationId": e.ID, "summary": e.Summary, "description": e.describe(), "tags": []string{e.Group},
			"security": []map[string][]string{{"token": {}}},
		}
		var in []map[string]any
		for _, m := range aParameter.FindAllStringSubmatch(e.Path, -1) {
			about, known := parameters[m[1]]
			if !known {
				return nil, fmt.Errorf("the parameter %s of %s is not described", m[1], e.ID)
			}
			in = append(in, map[string]any{"name": m[1], "in": "path", "required": true, "description": about, "schema": map[string]string{"type": "string"}})
		}
		for _, q := range e.Queries {
			in = append(in, map[string]any{"name": q.Name, "in": "query", "description": q.About, "schema": map[string]any{"type": "integer", "minimum": 1, "default": q.Default}})
		}
		if len(in) > 0 {
			o["parameters"] = in
		}
		if e.request != nil {
			o["requestBody"] = map[string]any{"required": true, "content": content("application/json", ref(e.request))}
		}
		answers := map[string]any{}
		switch {
		case e.stream:
			answers["200"] = map[string]any{"description": "server-sent events", "content": content("text/event-stream", map[string]string{"type": "string"})}
		case e.answer == nil:
			answers["204"] = map[string]any{"description": "done"}
		default:
			answers["200"] = map[string]any{"description": "done", "content": content("application/json", ref(e.answer))}
		}
		for status, of := range byStatus(e.problems()) {
			answers[strconv.Itoa(status)] = map[string]any{"description": "`" + strings.Join(of, "`, `") + "`", "content": content("application/problem+json", ref(reflect.TypeFor[Problem]()))}
		}
		o["responses"] = answers
		if paths[Base+e.Path] == nil {
			paths[Base+e.Path] = map[string]any{}
		}
		paths[Base+e.Path][strings.ToLower(e.Method)] = o
	}
	var out bytes.Buffer
	w := json.NewEncoder(&out)
	w.SetEscapeHTML(false)
	w.SetIndent("", "  ")
	err = w.Encode(map[string]any{
		"openapi": "3.1.0",
		"info": map[string]any{
			"title": "migrator", "version": "1",
			"description": "The HTTP API of a daemon. Within version 1 members, codes and operations are added; none is removed, and none changes its meaning: ignore members that you do not know.",
		},
		"paths": paths,
		"components": map[string]any{
			"schemas":         defined,
			"securitySchemes": map[string]any{"token": map[string]any{"type": "http", "scheme": "bearer", "description": "a token that migrator token create has printed"}},
		},
	})
	return out.Bytes(), err
}

func content(kind string, schema map[string]string) map[string]any {
	return map[string]any{kind: map[string]any{"schema": schema}}
}

func byStatus(all []Code) map[int][]string {
	sorted := map[int][]string{}
	for _, known := range codes {
		if slices.Contains(all, known.code) {
			sorted[known.status] = append(sorted[known.status], string(known.code))
		}
	}
	return sorted
}

// describe is the description of an operation, with what it needs.
func (e Endpoint) describe() string {
	parts := []string{e.About}
	switch e.Needs {
	case NeedsAny:
		parts = append(parts, "**Needs** a grant of any kind for the migration.")
	case NeedsApplication:
		parts = append(parts, "**Needs** a grant of the kind application, or operator, for the migration.")
	case NeedsViewer:
		parts = append(parts, "**Needs** a grant of the kind viewer, operator or decider for the migration.")
	case NeedsDecider:
		parts = append(parts, "**Needs** a grant of the kind decider, or operator, for the migration.")
	default:
		parts = append(parts, "**Needs** a grant of the kind "+string(e.Needs)+" for the migration.")
	}
	if e.Repeat != "" {
		parts = append(parts, "**Repeated:** "+e.Repeat)
	} else {
		parts = append(parts, "**Repeated:** it is a read.")
	}
	return strings.Join(parts, "\n\n")
}

// Reference is the part of the reference that is made of endpoints: Markdown, with a section for each group.
func Reference(list []Endpoint) (string, error) {
	defined, err := schemasOf(list)
	if err != nil {
		return "", err
	}
	var out strings.Builder
	group := ""
	for _, e := range list {
		if e.Group != group {
			group = e.Group
			fmt.Fprintf(&out, "## %s\n\n", group)
		}
		fmt.Fprintf(&out, "### %s\n\n`%s %s`\n\n%s. %s\n\n", e.ID, e.Method, Base+e.Path, e.Summary, e.describe())
		for _, q := range e.Queries {
			fmt.Fprintf(&out, "Query: `%s`, %s; %d without it\n\n", q.Name, q.About, q.Default)
		}
		for _, part := range []struct {
			what string
			of   reflect.Type
		}{{"Request", e.request}, {"Answer", e.answer}} {
			if part.of != nil {
				fmt.Fprintf(&out, "%s: [%s](#%s)\n\n", part.what, nameOf(part.of), strings.ToLower(nameOf(part.of)))
			}
		}
		if len(e.Errors) > 0 {
			var own []string
			for _, c := range e.Errors {
				own = append(own, fmt.Sprintf("`%s` (%d)", c, c.status()))
			}
			fmt.Fprintf(&out, "Problems of its own: %s\n\n", strings.Join(own, ", "))
		}
	}
	out.WriteString("## Documents\n\n")
	for _, name := range slices.Sorted(maps.Keys(defined)) {
		if err := documentTable(&out, name, defined[name]); err != nil {
			return "", err
		}
	}
	out.WriteString("## Problems\n\n| `code` | status | meaning |\n| --- | --- | --- |\n")
	for _, c := range codes {
		fmt.Fprintf(&out, "| `%s` | %d %s | %s |\n", c.code, c.status, http.StatusText(c.status), c.means)
	}
	return out.String(), nil
}

func documentTable(out *strings.Builder, name string, text json.RawMessage) error {
	var s jsonschema.Schema
	if err := json.Unmarshal(text, &s); err != nil {
		return err
	}
	fmt.Fprintf(out, "### %s\n\n| member | type | meaning |\n| --- | --- | --- |\n", name)
	for pair := s.Properties.Oldest(); pair != nil; pair = pair.Next() {
		member := "`" + pair.Key + "`"
		if !slices.Contains(s.Required, pair.Key) {
			member += " (optional)"
		}
		fmt.Fprintf(out, "| %s | %s | %s |\n", member, typeName(pair.Value), strings.ReplaceAll(pair.Value.Description, "|", `\|`))
	}
	out.WriteString("\n")
	return nil
}

// typeName is a schema's type, as a reader of the reference wants it.
func typeName(s *jsonschema.Schema) string {
	const prefix = "#/components/schemas/"
	switch {
	case strings.HasPrefix(s.Ref, prefix):
		name := strings.TrimPrefix(s.Ref, prefix)
		return "[" + name + "](#" + strings.ToLower(name) + ")"
	case s.Type == "array" && s.Items != nil:
		return "list of " + typeName(s.Items)
	case s.Type == "":
		return "any"
	}
	return s.Type
}
