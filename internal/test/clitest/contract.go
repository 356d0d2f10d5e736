package clitest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// Contract is the content of docs/json.md: the document of each command, and the fields of
// each type.
type Contract struct {
	Commands map[string]string
	Types    map[string][]ContractField
}

// ContractField is a row of a type's table. kind is one of contractKinds, or "[type]";
// list and mapped mark several of that kind.
type ContractField struct {
	name, kind             string
	list, mapped, optional bool
}

// DryRun is what every document of a dry run has, beside its type's own fields.
func DryRun() ContractField { return ContractField{name: "dry_run", kind: "boolean", optional: true} }

var (
	commandRow = regexp.MustCompile("^\\| `(migrator [^`]+)` \\| (.+) \\|$")
	// FieldRow is a row of a table of fields.
	FieldRow = regexp.MustCompile("^\\| `([a-z0-9_]+)` \\| ([^|]+) \\| .+ \\|$")
	embedRow = regexp.MustCompile(`^\| all of \[([^\]]+)\]\([^)]+\) \| \| \|$`)
	typeLink = regexp.MustCompile(`^\[([a-z ]+)\]\(#([a-z-]+)\)$`)
)

// contractKinds are the kinds of fields without a type of their own.
var contractKinds = []string{"text", "integer", "number", "boolean", "time", "duration", "percentage", "version", "any"}

// ReadContract reads docs/json.md.
func ReadContract() (*Contract, error) {
	path := filepath.Join(Root(), "docs", "json.md")
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	c := &Contract{Commands: map[string]string{}, Types: map[string][]ContractField{}}
	_, commands, ok := strings.Cut(string(data), "\n## Commands\n")
	commands, types, also := strings.Cut(commands, "\n## Types\n")
	if !ok || !also {
		return nil, fmt.Errorf("%s has no sections Commands and Types", path)
	}
	for line := range strings.Lines(commands) {
		if m := commandRow.FindStringSubmatch(strings.TrimSpace(line)); m != nil {
			c.Commands[m[1]] = m[2]
		}
	}
	for _, section := range strings.Split(types, "\n### ")[1:] {
		name, body, _ := strings.Cut(section, "\n")
		for line := range strings.Lines(body) {
			line = strings.TrimSpace(line)
			switch m, embedded := FieldRow.FindStringSubmatch(line), embedRow.FindStringSubmatch(line); {
			case embedded != nil:
				c.Types[name] = append(c.Types[name], c.Types[embedded[1]]...)
				if len(c.Types[embedded[1]]) == 0 {
					// Types are in alphabetical order; run comes after report.
					c.Types[name] = append(c.Types[name], ContractField{name: "all of " + embedded[1]})
				}
			case m != nil:
				f, err := readField(m[1], m[2])
				if err != nil {
					return nil, fmt.Errorf("type %s: %w", name, err)
				}
				c.Types[name] = append(c.Types[name], f)
			case strings.HasPrefix(line, "|") && line != "| field | type | meaning |" && line != "|---|---|---|":
				return nil, fmt.Errorf("type %s: unknown row: %s", name, line)
			}
		}
	}
	c.embed()
	return c, nil
}

func (c *Contract) embed() {
	for name, fields := range c.Types {
		var flat []ContractField
		for _, f := range fields {
			if other, ok := strings.CutPrefix(f.name, "all of "); ok {
				flat = append(flat, c.Types[other]...)
			} else {
				flat = append(flat, f)
			}
		}
		c.Types[name] = flat
	}
}

func readField(name, cell string) (f ContractField, err error) {
	f.name = name
	cell, f.optional = strings.CutSuffix(cell, ", optional")
	cell, f.list = strings.CutPrefix(cell, "list of ")
	cell, f.mapped = strings.CutPrefix(cell, "map of ")
	switch m := typeLink.FindStringSubmatch(cell); {
	case m != nil && strings.ReplaceAll(m[1], " ", "-") == m[2]:
		f.kind = "[" + m[1] + "]"
	case slices.Contains(contractKinds, cell):
		f.kind = cell
	default:
		err = fmt.Errorf("field %s: there is no type %q", name, cell)
	}
	return f, err
}

// Document checks one command's output.
func (c *Contract) Document(command string, out []byte) error {
	d := json.NewDecoder(bytes.NewReader(out))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return fmt.Errorf("%s: no JSON: %w: %s", command, err, out)
	}
	if _, err := d.Token(); err != io.EOF {
		return fmt.Errorf("%s: more than one document: %s", command, out)
	}
	says := c.Commands[command]
	switch {
	case strings.HasPrefix(says, "JSON Schema"):
		return nil
	case strings.HasPrefix(says, "migration file"):
		d := json.NewDecoder(bytes.NewReader(out))
		d.DisallowUnknownFields()
		return d.Decode(&migration.Config{})
	}
	// A remark may follow the type.
	f := ContractField{}
	says, f.list = strings.CutPrefix(says, "list of ")
	end := strings.IndexByte(says, ')') + 1
	m := typeLink.FindStringSubmatch(says[:end])
	if m == nil {
		return fmt.Errorf("%s: unknown document: %s", command, says)
	}
	f.kind = "[" + m[1] + "]"
	return c.value(command, f, v)
}

// value checks one value; at is its path, for messages.
func (c *Contract) value(at string, f ContractField, v any) error {
	switch {
	case f.list:
		list, ok := v.([]any)
		if !ok && v != nil {
			return fmt.Errorf("%s: %v is no list", at, v)
		}
		f.list = false
		for i, item := range list {
			if err := c.value(fmt.Sprintf("%s[%d]", at, i), f, item); err != nil {
				return err
			}
		}
		return nil
	case f.mapped:
		all, ok := v.(map[string]any)
		if !ok && v != nil {
			return fmt.Errorf("%s: %v is no map", at, v)
		}
		f.mapped = false
		for name, item := range all {
			if err := c.value(at+"."+name, f, item); err != nil {
				return err
			}
		}
		return nil
	case strings.HasPrefix(f.kind, "["):
		return c.Object(at, strings.Trim(f.kind, "[]"), v)
	case !isKind(f.kind, v):
		return fmt.Errorf("%s: %v is no %s", at, v, f.kind)
	}
	return nil
}

// Object checks a JSON object against the type of the name.
func (c *Contract) Object(at, name string, v any) error {
	all, ok := v.(map[string]any)
	if !ok {
		return fmt.Errorf("%s: %v is no object", at, v)
	}
	fields, ok := c.Types[name]
	if !ok {
		return fmt.Errorf("%s: the type %q has no table", at, name)
	}
	left := maps.Clone(all)
	for _, f := range fields {
		value, there := all[f.name]
		if !there {
			if f.optional {
				continue
			}
			return fmt.Errorf("%s: the field %q is missing", at, f.name)
		}
		delete(left, f.name)
		if err := c.value(at+"."+f.name, f, value); err != nil {
			return err
		}
	}
	for undocumented := range left {
		return fmt.Errorf("%s: docs/json.md knows no field %q of %s", at, undocumented, name)
	}
	return nil
}

var versionText = regexp.MustCompile(`^[0-9a-f]{32}$`)

func isKind(kind string, v any) bool {
	text, isText := v.(string)
	number, isNumber := v.(json.Number)
	switch kind {
	case "any":
		return true
	case "text":
		return isText
	case "time":
		_, err := time.Parse(time.RFC3339, text)
		return isText && err == nil
	case "duration":
		_, err := phases.ParseDuration(text)
		return isText && err == nil
	case "version":
		return isText && versionText.MatchString(text)
	case "boolean":
		_, ok := v.(bool)
		return ok
	case "integer":
		return isNumber && !strings.ContainsAny(number.String(), ".eE")
	default: // number, percentage
		return isNumber
	}
}

// FieldsOf are the fields that a Go type has in JSON; names are the contract's names of
// struct types.
func FieldsOf(t reflect.Type, names map[reflect.Type]string) []ContractField {
	var fields []ContractField
	for i := range t.NumField() {
		sf := t.Field(i)
		if sf.Anonymous {
			fields = append(fields, FieldsOf(sf.Type, names)...)
			continue
		}
		name, rest, _ := strings.Cut(sf.Tag.Get("json"), ",")
		if name == "-" {
			continue
		}
		f := ContractField{name: name, optional: rest != ""}
		ft := sf.Type
		if ft.Kind() == reflect.Pointer {
			ft = ft.Elem()
		}
		f.kind = kindOf(ft, names)
		if f.kind == "" {
			f.list, f.mapped = ft.Kind() == reflect.Slice, ft.Kind() == reflect.Map
			f.kind = kindOf(ft.Elem(), names)
		}
		fields = append(fields, f)
	}
	return fields
}

// kindOf is the contract's kind of a Go type, "" for slices and maps.
func kindOf(t reflect.Type, names map[reflect.Type]string) string {
	switch t {
	case reflect.TypeFor[time.Time]():
		return "time"
	case reflect.TypeFor[phases.Duration]():
		return "duration"
	case reflect.TypeFor[phases.Percent](), reflect.TypeFor[phases.Shadow]():
		return "percentage"
	case reflect.TypeFor[record.Version]():
		return "version"
	case reflect.TypeFor[json.RawMessage](), reflect.TypeFor[store.Chunk]():
		return "any"
	}
	switch t.Kind() {
	case reflect.String:
		return "text"
	case reflect.Bool:
		return "boolean"
	case reflect.Struct:
		return "[" + names[t] + "]"
	case reflect.Float64:
		return "number"
	case reflect.Slice, reflect.Map:
		return ""
	default:
		return "integer"
	}
}
