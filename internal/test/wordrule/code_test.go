package wordrule

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const root = "../../.."

// quotes are texts that hold an unwanted word for a reason.
var quotes = []string{
	"\"nobody\"", "user nobody", "a user postgres nor nobody", "*nobody", // the Unix user, values of tests
	"nobody but ",   // what an installed function of the schema raises
	"\"anew\"",      // a flag's name stays
	"\"take back\"", // a stored value stays
}

// file lists what of a Go file breaks the rule, a sentence each.
func file(name string, src []byte) ([]string, error) {
	fset := token.NewFileSet()
	parsed, err := parser.ParseFile(fset, name, src, parser.ParseComments)
	if err != nil {
		return nil, err
	}
	var broken []string
	at := func(pos token.Pos, what string) {
		p := fset.Position(pos)
		broken = append(broken, p.Filename+":"+strconv.Itoa(p.Line)+": "+what)
	}
	for _, group := range parsed.Comments {
		for _, c := range group.List {
			if w := unwanted(c.Text); w != "" {
				at(c.Pos(), "the comment says "+strconv.Quote(w))
			}
		}
	}
	ast.Inspect(parsed, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.BasicLit:
			if w := unwanted(n.Value); n.Kind == token.STRING && w != "" {
				at(n.Pos(), "the text says "+strconv.Quote(w))
			}
		case *ast.FuncDecl:
			identifier(n.Name, at)
		case *ast.TypeSpec:
			identifier(n.Name, at)
		case *ast.ValueSpec:
			for _, id := range n.Names {
				identifier(id, at)
			}
		case *ast.Field:
			for _, id := range n.Names {
				identifier(id, at)
			}
		case *ast.AssignStmt:
			for _, left := range n.Lhs {
				if id, ok := left.(*ast.Ident); ok && n.Tok == token.DEFINE {
					identifier(id, at)
				}
			}
		}
		return true
	})
	return broken, nil
}

func unwanted(text string) string {
	for _, q := range quotes {
		text = strings.ReplaceAll(text, q, "")
	}
	return unplain.FindString(text)
}

func identifier(id *ast.Ident, at func(token.Pos, string)) {
	for _, w := range words(id.Name) {
		if instead, bad := unplainNames[w]; bad {
			at(id.Pos(), id.Name+": "+w+" is no word of the glossary (perhaps "+instead+")")
		}
	}
}

func TestTheCodeIsPlain(t *testing.T) {
	t.Parallel()
	files := 0
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		if e.IsDir() && (e.Name() == "testdata" || name != "." && strings.HasPrefix(e.Name(), ".") || name == filepath.Join("internal", "test", "wordrule")) {
			return fs.SkipDir
		}
		if e.IsDir() || !strings.HasSuffix(path, ".go") {
			return nil
		}
		src, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		broken, err := file(filepath.ToSlash(name), src)
		for _, sentence := range broken {
			t.Error(sentence)
		}
		files++
		return err
	})
	if err != nil || files < 100 {
		t.Fatalf("%d files, %v", files, err)
	}
}

func TestTheRuleSeesUnplainWords(t *testing.T) {
	t.Parallel()
	for src, want := range map[string]int{
		"package p\n\n// A lease that nobody renews.\nvar x int\n":                 1,
		"package p\n\nvar text = \"the job was begun anew\"\n":                     1,
		"package p\n\nfunc tellWitness() {}\n":                                     2,
		"package p\n\nfunc f() { told := 1; _ = told }\n":                          1,
		"package p\n\n// f starts as the user nobody.\nfunc f() { retold := 1 }\n": 0,
	} {
		if got, err := file("p.go", []byte(src)); err != nil || len(got) != want {
			t.Errorf("%q: %v, %v, want %d", src, got, err, want)
		}
	}
}
