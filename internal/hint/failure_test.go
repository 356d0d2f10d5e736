package hint_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stranglerfig/migrator/internal/hint"
)

type sqlState string

func (s sqlState) Error() string    { return "SQLSTATE " + string(s) }
func (s sqlState) SQLState() string { return string(s) }

// TestFailuresAreWhole: each row has its parts, and no code of a system is twice there.
func TestFailuresAreWhole(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, f := range hint.Failures() {
		name := f.System + " " + f.Code
		if seen[name] || f.What == "" || f.Risk == "" || f.Remedy("").IsZero() || f.Then != "" && f.Do == "" {
			t.Errorf("%s: %+v", name, f)
		}
		seen[name] = true
		if got, ok := hint.Row(f.System, f.Code); !ok || got != f {
			t.Errorf("%s is not found", name)
		}
	}
}

// TestAFailureIsFoundInAnError: by its row, else by a SQLSTATE. Its remedy yields to a hint from
// outside, but not to the advice to look.
func TestAFailureIsFoundInAnError(t *testing.T) {
	t.Parallel()
	row, _ := hint.Row(hint.Redis, "OOM")
	remedy := row.Remedy("target.url")
	full := fmt.Errorf("write: %w", hint.Foreign(errors.New("OOM"), row, remedy))
	for name, c := range map[string]struct {
		err  error
		code string
		want hint.Hint
	}{
		"none":            {errBase, "", hint.Hint{}},
		"a row":           {full, "OOM", remedy},
		"a row in a hint": {hint.With(full, evict), "OOM", evict},
		"look":            {hint.With(full, hint.Hint{Do: hint.Doctor}), "OOM", remedy},
		"joined":          {errors.Join(hint.With(errBase, upgrade), full), "OOM", upgrade},
		"a state":         {wrapped(sqlState("40P01")), "40P01", hint.Hint{Do: hint.Retry}},
		"another state":   {wrapped(sqlState("99999")), "", hint.Hint{}},
	} {
		f, _ := hint.FailureOf(c.err)
		h, ok := hint.Of(c.err)
		if f.Code != c.code || !same(h, c.want) || ok == c.want.IsZero() {
			t.Errorf("%s: %q, %+v", name, f.Code, h)
		}
	}
	if hint.Foreign(nil, row, remedy) != nil {
		t.Error("nil became an error")
	}
}
