package api_test

import (
	"encoding/json"
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/stranglerfig/migrator/internal/api"
	"github.com/stranglerfig/migrator/internal/server"
)

//go:generate go test -count=1 -run ^TestDocument$ . -update

var update = flag.Bool("update", false, "write docs/openapi.json")

// TestDocument: docs/openapi.json is what the daemon serves.
func TestDocument(t *testing.T) {
	t.Parallel()
	const path = "../../docs/openapi.json"
	want, err := server.Document(new(api.API).List())
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(path, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if have, err := os.ReadFile(path); err != nil || string(have) != string(want) {
		t.Errorf("%s differs from the operations: run go generate ./internal/api (%v)", path, err)
	}
	var doc any
	if err := json.Unmarshal(want, &doc); err != nil {
		t.Fatal(err)
	}
	// Each reference leads somewhere, and each operation has one name.
	names := map[string]bool{}
	var walk func(node any)
	walk = func(node any) {
		switch node := node.(type) {
		case map[string]any:
			if ref, ok := node["$ref"].(string); ok {
				at := doc
				for part := range strings.SplitSeq(strings.TrimPrefix(ref, "#/"), "/") {
					at, _ = at.(map[string]any)[part]
				}
				if at == nil {
					t.Errorf("%s leads nowhere", ref)
				}
			}
			if id, ok := node["operationId"].(string); ok {
				if names[id] {
					t.Errorf("two operations are %s", id)
				}
				names[id] = true
			}
			for _, child := range node {
				walk(child)
			}
		case []any:
			for _, child := range node {
				walk(child)
			}
		}
	}
	walk(doc)
	if len(names) == 0 {
		t.Error("no operation has a name")
	}
}
