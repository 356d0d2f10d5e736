package migration_test

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/stranglerfig/migrator/internal/configschema"
	"github.com/stranglerfig/migrator/internal/openstore"
)

func TestSchemaIsCommitted(t *testing.T) {
	t.Parallel()
	want, err := configschema.Migration(openstore.Kinds()...)
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile("../configs/migration.schema.json")
	if err != nil || string(got) != string(want) {
		t.Errorf("configs/migration.schema.json differs from the types (%v): run go generate ./internal/configschema", err)
	}
}

// TestSchemaRefusesWhatParseRefuses, if the error is in one setting alone.
func TestSchemaRefusesWhatParseRefuses(t *testing.T) {
	t.Parallel()
	if got := conforms(t, []byte(least)); got != "" {
		t.Errorf("the shortest migration file: %s", got)
	}
	for _, c := range []struct{ more, want string }{
		{"tabel: x", "tabel is unknown"},
		{"phases: {cutover: {step: [1]}}", "step is unknown"},
		{"phases: {cutover: {steps: [101]}}", "phases.cutover.steps[0]"},
		{"phases: {grace: {for: soon}}", "phases.grace.for"},
		{"phases: {grace: {for: 7}}", "phases.grace.for"},
		{"phases: {approval: {for: [fenced]}}", "phases.approval.for[0]"},
		{"phases: {retain: {reversible: perhaps}}", "phases.retain.reversible"},
		{"backfill: {rate: fast}", "backfill.rate"},
		{"writing: {on_target_failure: retry}", "writing.on_target_failure"},
		{"fields: [{target: x}]", "fields[0].name is missing"},
		{"compare: [{ignore: x}]", "compare[0].path is missing"},
		{"exclude: price", "exclude"},
	} {
		if _, err := openstore.Parse("m.yaml", []byte(least+c.more), nil); err == nil {
			t.Errorf("%s: Parse accepts it", c.more)
		}
		if got := conforms(t, []byte(least+c.more)); !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", c.more, got, c.want)
		}
	}
	for _, more := range []string{
		"phases: {cutover: {steps: [0.5, 1, '${X}', 100]}, grace: {for: 1d12h}}", "backfill: {rate: '${RATE}', workers: 2}",
		"compare: [{path: /a, tolerance: 0.01}, {path: /b, tolerance: '0.01'}, {path: /c, precision: 1ms}, {path: /d, as: timestamptz, zone: UTC}]",
		"phases: {grace: {for: '${FOR:-30d}'}, retain: {for: 1.5h, reversible: '${R}'}}",
	} {
		if got := conforms(t, []byte(least+more)); got != "" {
			t.Errorf("%s: %s", more, got)
		}
	}
}

// conforms checks a document by the keywords that our schema uses; "" if it conforms.
func conforms(t testing.TB, document []byte) string {
	t.Helper()
	text, err := configschema.Migration(openstore.Kinds()...)
	if err != nil {
		t.Fatal(err)
	}
	var schema map[string]any
	if err := json.Unmarshal(text, &schema); err != nil {
		t.Fatal(err)
	}
	var value any
	if err := yaml.Unmarshal(document, &value); err != nil {
		t.Fatal(err)
	}
	return check(schema, value, "")
}

func check(schema map[string]any, value any, path string) string {
	for word := range schema {
		if !slices.Contains([]string{
			"$schema", "title", "description", "default", "type", "properties", "required", "additionalProperties",
			"items", "enum", "pattern", "anyOf", "exclusiveMinimum", "maximum",
		}, word) {
			return fmt.Sprintf("this test does not know the schema's word %q", word)
		}
	}
	if either, ok := schema["anyOf"].([]any); ok {
		for _, one := range either {
			if check(one.(map[string]any), value, path) == "" {
				return ""
			}
		}
		return path + " is none of what it may be"
	}
	switch value := value.(type) {
	case map[string]any:
		return checkObject(schema, value, path)
	case []any:
		if schema["type"] != "array" {
			return path + " is a list"
		}
		for i, item := range value {
			if wrong := check(schema["items"].(map[string]any), item, fmt.Sprintf("%s[%d]", path, i)); wrong != "" {
				return wrong
			}
		}
	case string:
		enum, limited := schema["enum"].([]any)
		pattern, _ := schema["pattern"].(string)
		if schema["type"] != "string" || limited && !slices.Contains(enum, any(value)) || !regexp.MustCompile(pattern).MatchString(value) {
			return path + " can't be " + value
		}
	case bool:
		if schema["type"] != "boolean" {
			return path + " is true or false"
		}
	case int, float64:
		var n float64
		_, _ = fmt.Sscan(fmt.Sprint(value), &n)
		low, hasLow := schema["exclusiveMinimum"].(float64)
		high, hasHigh := schema["maximum"].(float64)
		if schema["type"] != "number" && schema["type"] != "integer" || hasLow && n <= low || hasHigh && n > high {
			return fmt.Sprintf("%s can't be the number %v", path, value)
		}
	default:
		return fmt.Sprintf("%s is a %T", path, value)
	}
	return ""
}

func checkObject(schema, value map[string]any, path string) string {
	properties, _ := schema["properties"].(map[string]any)
	if schema["type"] != "object" && properties == nil {
		return path + " is a mapping"
	}
	if each, ok := schema["additionalProperties"].(map[string]any); ok {
		for key, inner := range value {
			if wrong := check(each, inner, path+"."+key); wrong != "" {
				return wrong
			}
		}
		return ""
	}
	required, _ := schema["required"].([]any)
	for _, key := range required {
		if _, ok := value[key.(string)]; !ok {
			return strings.TrimPrefix(path+"."+key.(string), ".") + " is missing"
		}
	}
	for key, inner := range value {
		at := strings.TrimPrefix(path+"."+key, ".")
		property, ok := properties[key].(map[string]any)
		if !ok {
			return at + " is unknown"
		}
		if wrong := check(property, inner, at); wrong != "" {
			return wrong
		}
	}
	return ""
}
