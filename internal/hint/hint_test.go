package hint_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"log/slog"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stranglerfig/migrator/internal/hint"
)

var (
	errBase = errors.New("the schema does not exist")
	evict   = hint.Hint{Do: hint.FleetEvict, Of: []string{"a-1"}, Text: "once it has stopped"}
	upgrade = hint.Hint{Text: "upgrade the server"}
)

type typed struct{ h hint.Hint }

func (typed) Error() string      { return "typed" }
func (e typed) Hint() hint.Hint  { return e.h }
func (e typed) Unwrap() error    { return hint.With(errBase, upgrade) }
func same(a, b hint.Hint) bool   { return a.Do == b.Do && slices.Equal(a.Of, b.Of) && a.Text == b.Text }
func wrapped(err error) error    { return fmt.Errorf("outside: %w", err) }
func joined(errs ...error) error { return errors.Join(errs...) }

func TestOfFindsTheOutermostHint(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		err  error
		want hint.Hint
	}{
		"nil":                  {nil, hint.Hint{}},
		"none":                 {errBase, hint.Hint{}},
		"a zero hint":          {hint.With(errBase, hint.Hint{}), hint.Hint{}},
		"its own":              {hint.With(errBase, evict), evict},
		"wrapped":              {wrapped(wrapped(hint.With(errBase, evict))), evict},
		"the outer of two":     {hint.With(wrapped(hint.With(errBase, upgrade)), evict), evict},
		"joined, the first":    {joined(errBase, hint.With(errBase, evict), hint.With(errBase, upgrade)), evict},
		"two verbs":            {fmt.Errorf("%w: %w", errBase, hint.With(errBase, evict)), evict},
		"a type of its own":    {wrapped(typed{evict}), evict},
		"a type that has none": {typed{}, upgrade},
	} {
		got, ok := hint.Of(c.err)
		if !same(got, c.want) || ok == c.want.IsZero() {
			t.Errorf("%s: %v %t", name, got, ok)
		}
	}
}

func TestErrorTextIsTheFactAlone(t *testing.T) {
	t.Parallel()
	err := hint.Errorf(evict, "reach %s: %w", "it", errBase)
	if err.Error() != "reach it: the schema does not exist" || !errors.Is(err, errBase) {
		t.Errorf("%v", err)
	}
	var as hint.Hinter
	if !errors.As(wrapped(err), &as) || !same(as.Hint(), evict) {
		t.Errorf("%v", as)
	}
	if hint.With(nil, evict) != nil {
		t.Error("nil became an error")
	}
}

func TestHintInJSONAndInLogs(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		h            hint.Hint
		json, logged string
	}{
		{hint.Hint{}, `{}`, ""},
		{evict, `{"do":"fleet-evict","of":["a-1"],"text":"once it has stopped"}`, "fleet-evict a-1, once it has stopped"},
		{hint.Hint{Do: hint.Doctor}, `{"do":"doctor"}`, "doctor"},
		{upgrade, `{"text":"upgrade the server"}`, "upgrade the server"},
	} {
		data, err := json.Marshal(c.h)
		var back hint.Hint
		if err != nil || string(data) != c.json || json.Unmarshal(data, &back) != nil || !same(back, c.h) {
			t.Errorf("%v: %s %v %v", c.h, data, back, err)
		}
		if got := c.h.String(); got != c.logged {
			t.Errorf("%q, want %q", got, c.logged)
		}
		if got := (struct {
			H hint.Hint `json:"h,omitzero"`
		}{c.h}); c.h.IsZero() {
			if data, _ := json.Marshal(got); string(data) != `{}` {
				t.Errorf("%s", data)
			}
		}
	}
	var b strings.Builder
	log := slog.New(slog.NewTextHandler(&b, nil))
	log.Info("a", "error", errBase, hint.Attr(errBase))
	log.Info("b", "error", errBase, hint.Attr(hint.With(errBase, evict)))
	lines := strings.Split(b.String(), "\n")
	if strings.Contains(lines[0], "hint") || !strings.HasSuffix(lines[1], `hint="fleet-evict a-1, once it has stopped"`) {
		t.Errorf("%s", b.String())
	}
}

// TestActionsListsEveryConstant, in kebab case and once each.
func TestActionsListsEveryConstant(t *testing.T) {
	t.Parallel()
	file, err := parser.ParseFile(token.NewFileSet(), "hint.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var declared []hint.Action
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok {
			if lit, ok := spec.Values[0].(*ast.BasicLit); ok {
				text, err := strconv.Unquote(lit.Value)
				if err != nil {
					t.Error(err)
				}
				declared = append(declared, hint.Action(text))
			}
		}
		return true
	})
	kebab := regexp.MustCompile(`^[a-z]+(-[a-z]+)*$`)
	for i, a := range declared {
		if !kebab.MatchString(string(a)) || slices.Contains(declared[:i], a) {
			t.Errorf("%q", a)
		}
	}
	if !slices.Equal(declared, hint.Actions()) {
		t.Errorf("declared %v\nlisted %v", declared, hint.Actions())
	}
}
