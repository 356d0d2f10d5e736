package server_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strings"
	"testing"

	"github.com/stranglerfig/migrator/internal/server"
)

// TestEachCodeHasItsStatus: a code that is missing in the table would be answered as a failure of the daemon.
func TestEachCodeHasItsStatus(t *testing.T) {
	t.Parallel()
	file, err := parser.ParseFile(token.NewFileSet(), "problem.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var declared []string
	ast.Inspect(file, func(n ast.Node) bool {
		if v, ok := n.(*ast.ValueSpec); ok && len(v.Values) == 1 {
			if of, ok := v.Type.(*ast.Ident); ok && of.Name == "Code" {
				declared = append(declared, v.Names[0].Name)
			}
		}
		return true
	})
	listed := 0
	ast.Inspect(file, func(n ast.Node) bool {
		if row, ok := n.(*ast.CompositeLit); ok && len(row.Elts) == 3 {
			if name, ok := row.Elts[0].(*ast.Ident); ok {
				listed++
				if !slices.Contains(declared, name.Name) {
					t.Errorf("%s is in the table, and no code", name.Name)
				}
				declared = slices.DeleteFunc(declared, func(d string) bool { return d == name.Name })
			}
		}
		return true
	})
	if listed < 20 || listed != len(server.Codes()) || len(declared) > 0 {
		t.Errorf("%d of %d codes were found in the table; not there: %s", listed, len(server.Codes()), strings.Join(declared, ", "))
	}
}
