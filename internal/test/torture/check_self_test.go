package torture

import (
	"strings"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// script parses a history: "kind value call-return outcome"; the outcome until-N is an
// acknowledged write that is degraded until then.
func script(t *testing.T, lines ...string) []*operation {
	t.Helper()
	var ops []*operation
	for i, line := range lines {
		f := strings.Fields(line)
		if len(f) != 4 {
			t.Fatalf("line %d: %q", i, line)
		}
		from, to, _ := strings.Cut(f[2], "-")
		call, err := time.ParseDuration(from + "s")
		if err != nil {
			t.Fatal(err)
		}
		ret, err := time.ParseDuration(to + "s")
		if err != nil {
			t.Fatal(err)
		}
		value := f[1]
		if value == "-" {
			value = ""
		}
		o := &operation{Client: i, Kind: kind(f[0]), Value: value, Call: call, Return: ret, Outcome: outcome(f[3])}
		if until, ok := strings.CutPrefix(f[3], "until-"); ok {
			o.Outcome, o.Exception = done, degraded
			if o.Until, err = time.ParseDuration(until + "s"); err != nil {
				t.Fatal(err)
			}
		}
		ops = append(ops, o)
	}
	return ops
}

func TestCheckersFindViolations(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		good   bool
		strict bool
		ledger bool // the ledger detects it too
		lines  []string
	}{
		{"nothing", true, true, true, nil},
		{"read what was written", true, true, true, []string{"put a 1-2 ok", "get a 3-4 ok"}},
		{"a lost write", false, false, true, []string{"put a 1-2 ok", "get - 3-4 ok"}},
		{"an old value", false, false, true, []string{"put a 1-2 ok", "put b 3-4 ok", "get a 5-6 ok"}},
		{"a value that was never written", false, false, true, []string{"get x 1-2 ok"}},
		{"a value that was refused", false, false, true, []string{"put a 1-2 written", "get a 3-4 ok"}},
		{"read before it was written", false, false, true, []string{"get a 1-2 ok", "put a 3-4 ok"}},
		{"a deleted record is back", false, false, true, []string{"put a 1-2 ok", "del - 3-4 ok", "get a 5-6 ok"}},
		{"a delete of unknown outcome", true, true, true, []string{"put a 1-2 ok", "del - 3-4 unknown", "get a 5-6 ok", "get - 7-8 ok"}},
		{"a write of unknown outcome, not done", true, true, true, []string{"put a 1-2 ok", "put b 3-4 unknown", "get a 5-6 ok"}},
		{"a write of unknown outcome, done late", true, true, true, []string{"put a 1-2 ok", "put b 3-4 unknown", "get a 5-6 ok", "get b 7-8 ok"}},
		{"seen, though not acknowledged, and gone", true, false, true, []string{"put a 1-2 ok", "put b 3-4 unknown", "get b 5-6 ok", "get a 7-8 ok"}},
		{"the same once it was overwritten", false, false, true, []string{"put a 1-2 ok", "put b 3-4 unknown", "get b 5-6 ok", "put c 7-8 ok", "get b 9-10 ok"}},
		{"new and old during a write", true, false, true, []string{"put a 1-2 ok", "put b 3-9 ok", "get b 4-5 ok", "get a 6-7 ok"}},
		{"new and old after it", false, false, true, []string{"put a 1-2 ok", "put b 3-5 ok", "get b 6-7 ok", "get a 8-9 ok"}},
		{"two at once, either wins", true, true, true, []string{"put a 1-4 ok", "put b 2-3 ok", "get a 5-6 ok"}},
		{"two at once, both win", false, false, false, []string{"put a 1-4 ok", "put b 2-3 ok", "get a 5-6 ok", "get b 7-8 ok", "get a 9-10 ok"}},
		{"three at once, and the last is over", true, true, true, []string{"put a 1-9 ok", "put b 2-8 ok", "put c 3-7 ok", "get c 10-11 ok", "get c 12-13 ok"}},
		{"legacy has it, the target not", true, false, true, []string{"put a 1-2 ok", "put b 3-4 half", "get b 5-6 ok", "get a 7-8 ok"}},
		{"degraded, and read old before the repair", true, false, true, []string{"put a 1-2 ok", "put b 3-4 until-9", "get b 5-6 ok", "get a 7-8 ok"}},
		{"degraded, and read old after the repair", false, false, true, []string{"put a 1-2 ok", "put b 3-4 until-6", "get b 5-6 ok", "get a 7-8 ok"}},
		{"degraded, and lost for good", false, false, true, []string{"put a 1-2 ok", "put b 3-4 until-6", "get a 7-8 ok"}},
		{"degraded, but older than the one before too", false, false, true, []string{"put a 1-2 ok", "put b 3-4 ok", "put c 5-6 until-9", "get a 7-8 ok"}},
		{"degraded, then another that is not", false, false, true, []string{"put a 1-2 ok", "put b 3-4 until-20", "put c 5-6 ok", "get a 7-8 ok"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			ops := script(t, c.lines...)
			for _, o := range ops {
				if o.Outcome == "written" {
					o.Outcome = refused
				}
			}
			v := checkKey(1, ops, 10*time.Second)
			if (v.result == porcupine.Ok) != c.good {
				t.Errorf("the model's result is %s, want good=%v", v.result, c.good)
			}
			if (v.strict == porcupine.Ok) != c.strict {
				t.Errorf("the strict result is %s, want %v", v.strict, c.strict)
			}
			if (len(v.stale) == 0) != (c.good || !c.ledger) {
				t.Errorf("the ledger finds %d wrong reads", len(v.stale))
			}
		})
	}
}

func TestAllowedStaleReadsAreCounted(t *testing.T) {
	t.Parallel()
	v := checkKey(1, script(t, "put a 1-2 ok", "put b 3-4 until-9", "get a 5-6 ok", "get b 5-6 ok", "get a 7-8 ok", "get b 10-11 ok"), 10*time.Second)
	if len(v.allowed) != 2 || v.allowed[1].after != 4*time.Second || v.allowed[0].write.Value != "b" || v.violated() {
		t.Errorf("%+v, violated: %v", v.allowed, v.violated())
	}
}
