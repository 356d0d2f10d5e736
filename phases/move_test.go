package phases

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// moves is written by hand: from the phase on the left to the one above, f is an
// advance, b a rollback, % a change of the ramp's percentage. Grace to lifting undoes
// a fence that was raised though its epoch was never committed.
const moves = `
             legacy shadow-write dual-read cutover grace fenced lifting returning retain complete
legacy       .      f            .         .       .     .      .       .         .      .
shadow-write b      .            f         .       .     .      .       .         .      .
dual-read    .      b            %         f       .     .      .       .         .      .
cutover      .      .            b         %       f     .      .       .         .      .
grace        .      .            b         b       .     f      b       .         .      .
fenced       .      .            .         .       .     .      b       .         f      .
lifting      .      .            .         .       b     .      .       .         .      .
returning    .      .            .         .       b     .      .       .         b      .
retain       .      .            .         .       .     .      .       b         .      f
complete     .      .            .         .       .     .      .       .         .      .
`

func TestLegalMoves(t *testing.T) {
	t.Parallel()
	cells := matrix(t, moves)
	for _, p := range allPhases {
		for _, q := range allPhases {
			for _, a := range routesOf(p) {
				for _, b := range routesOf(q) {
					cell := cells[[2]Phase{p, q}]
					legal := cell == "f" || cell == "b" || cell == "%" && a.Percent != b.Percent
					forward := cell == "f" || cell == "%" && b.Percent > a.Percent
					if err := Legal(a, b, nil); (err == nil) != legal {
						t.Errorf("Legal(%s, %s) = %v", a, b, err)
					}
					if Forward(a, b) != forward {
						t.Errorf("Forward(%s, %s) = %v", a, b, !forward)
					}
				}
			}
		}
	}
}

func TestLegalRefusesInvalidRoutes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ from, to Route }{
		{Route{Phase: ShadowWrite}, Route{Phase: DualRead}},           // a ramp without its percentage
		{Route{Phase: Legacy}, Route{Phase: ShadowWrite, Percent: 5}}, // a percentage without a ramp
		{Route{Phase: Cutover, Percent: 5}, Route{Phase: Cutover}},    //
		{Route{Phase: Cutover, Percent: 5}, Route{Phase: Cutover, Percent: All + 1}},
		{Route{Phase: Legacy}, Route{Phase: "later"}},
		{Route{Phase: "later"}, Route{Phase: Legacy}},
		{Route{}, Route{}},
	} {
		if err := Legal(c.from, c.to, nil); err == nil {
			t.Errorf("Legal(%+v, %+v) = nil", c.from, c.to)
		}
	}
}

func TestLegalNamesTheConflictingLiveRoute(t *testing.T) {
	t.Parallel()
	from := Route{Phase: DualRead, Percent: All, Epoch: 5}
	to := Route{Phase: Cutover, Percent: 100}
	live := []Route{from, {Phase: ShadowWrite, Epoch: 4}}
	err := Legal(from, to, live)
	var refused *RouteConflictError
	if !errors.As(err, &refused) || refused.Live != live[1] || refused.To != to {
		t.Fatalf("%v", err)
	}
	if !strings.Contains(err.Error(), "shadow-write (epoch 4)") || !strings.Contains(err.Error(), "cutover 1 %") {
		t.Errorf("%v", err)
	}
	if err := Legal(from, to, live[:1]); err != nil {
		t.Errorf("settled: %v", err)
	}
	// A rollback overtakes a half-finished advance.
	at := Route{Phase: Cutover, Percent: 100, Epoch: 6}
	if err := Legal(at, Route{Phase: DualRead, Percent: All}, []Route{at, from}); err != nil {
		t.Errorf("back from a ramp that is not settled: %v", err)
	}
}

func TestRollbackPath(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		from Phase
		to   Phase
		want string // "" is a refusal
	}{
		{ShadowWrite, Legacy, "legacy"},
		{DualRead, ShadowWrite, "shadow-write"},
		{DualRead, Legacy, "shadow-write, legacy"},
		{Cutover, DualRead, "dual-read 100 %"},
		{Cutover, ShadowWrite, "dual-read 100 %, shadow-write"},
		{Cutover, Legacy, "dual-read 100 %, shadow-write, legacy"},
		{Grace, Cutover, "cutover 100 %"},
		{Grace, DualRead, "dual-read 100 %"},
		{Grace, Legacy, "dual-read 100 %, shadow-write, legacy"},
		{Fenced, Grace, "lifting, grace"},
		{Fenced, DualRead, "lifting, grace, dual-read 100 %"},
		{Lifting, Grace, "grace"},
		{Returning, Grace, "grace"},
		{Returning, Cutover, "grace, cutover 100 %"},
		{Retain, Grace, "returning, grace"},
		{Retain, Legacy, "returning, grace, dual-read 100 %, shadow-write, legacy"},
		{Legacy, Legacy, ""},
		{Cutover, Cutover, ""},
		{Grace, Grace, ""},
		{Retain, Retain, ""},
		{Legacy, ShadowWrite, ""},
		{DualRead, Cutover, ""},
		{Grace, Retain, ""},
		{Fenced, Retain, ""},
		{Retain, Complete, ""},
		{Retain, Fenced, ""},
		{Fenced, Lifting, ""},
		{Grace, Returning, ""},
		{Complete, Grace, ""},
		{Complete, Retain, ""},
		{Complete, Legacy, ""},
		{Grace, "nowhere", ""},
		{"nowhere", Legacy, ""},
		{"", "", ""},
	} {
		path, err := RollbackPath(Route{Phase: c.from, Percent: 500}, c.to)
		var words []string
		for _, r := range path {
			words = append(words, r.String())
		}
		if got := strings.Join(words, ", "); got != c.want || (err != nil) != (c.want == "") {
			t.Errorf("from %s to %s: %q, %v; want %q", c.from, c.to, got, err, c.want)
		}
	}
}

// TestRollbackPathsAreLegal takes every step of every path, each settled before the next.
func TestRollbackPathsAreLegal(t *testing.T) {
	t.Parallel()
	taken := 0
	for _, from := range allPhases {
		for _, to := range Order {
			for _, at := range routesOf(from) {
				path, err := RollbackPath(at, to)
				if err != nil {
					continue
				}
				for _, next := range path {
					if err := Legal(at, next, []Route{at}); err != nil {
						t.Errorf("from %s to %s: %v", from, to, err)
					}
					if Forward(at, next) {
						t.Errorf("from %s to %s: the step from %s to %s is an advance", from, to, at, next)
					}
					at = next
				}
				if taken++; at.Phase != to {
					t.Errorf("from %s to %s: the path ends at %s", from, to, at)
				}
			}
		}
	}
	if taken < 20 {
		t.Errorf("only %d paths", taken)
	}
}

func TestRollbackTarget(t *testing.T) {
	t.Parallel()
	for from, want := range map[Phase]Phase{
		Legacy: Legacy, ShadowWrite: ShadowWrite, DualRead: DualRead, Cutover: DualRead, Grace: DualRead,
		Fenced: Grace, Lifting: Grace, Retain: Grace, Returning: Grace,
		Complete: "", "nowhere": "",
	} {
		got, err := RollbackTarget(from)
		if got != want || (err != nil) != (want == "") {
			t.Errorf("%s: %q, %v; want %q", from, got, err, want)
		}
		if err == nil && got != from {
			if _, err := RollbackPath(Route{Phase: from}, got); err != nil {
				t.Errorf("%s: no path: %v", from, err)
			}
		}
	}
}

func TestClassOf(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		phase      Phase
		reversible bool
		keys       int64
		unclean    string
		want       string
	}{
		{Legacy, true, 0, "", "lossless now"},
		{Legacy, false, 0, "", "lossless now"},
		{ShadowWrite, false, 0, "", "lossless now"},
		{DualRead, false, 0, "", "lossless now"},
		{Cutover, false, 0, "", "lossless now"},
		{Grace, false, 0, "", "lossless now"},
		{Fenced, false, 0, "", "lossless now"},
		{Lifting, false, 0, "", "lossless now"},
		{Retain, true, 0, "", "lossless after 0 keys"},
		{Retain, true, 12, "", "lossless after 12 keys"},
		{Retain, false, 0, "", "impossible"},
		{Retain, false, 12, "", "impossible"},
		{Retain, true, 12, "legacy lost its fence", "unknown"},
		{Returning, true, 12, "legacy lost its fence", "unknown"},
		{Retain, false, 12, "legacy lost its fence", "impossible"},
		{Grace, true, 0, "legacy lost its fence", "lossless now"},
		{Returning, true, 3, "", "lossless after 3 keys"},
		{Complete, true, 0, "", "impossible"},
		{Complete, false, 0, "", "impossible"},
	} {
		got := ClassOf(Status{Route: Route{Phase: c.phase}, Reversible: c.reversible, ReturnKeys: c.keys, Unclean: c.unclean})
		if got.String() != c.want || got.Reason == "" {
			t.Errorf("ClassOf(%s, %v, %d) = %q (%q), want %q", c.phase, c.reversible, c.keys, got, got.Reason, c.want)
		}
	}
}

func TestPhaseNames(t *testing.T) {
	t.Parallel()
	for i, p := range Order {
		if got, err := ParsePhase(string(p)); err != nil || got != p || p.Position() != i || p.Passing() {
			t.Errorf("%s: %s, %v, position %d", p, got, err, p.Position())
		}
	}
	for _, p := range []Phase{Fenced, Lifting, Returning} {
		if _, err := ParsePhase(string(p)); err == nil || !p.Passing() || p.Position() != Grace.Position() || p.Ramped() {
			t.Errorf("%s is a passing phase: %v", p, err)
		}
	}
	_, err := ParsePhase("Cutover")
	if want := fmt.Sprintf("unknown phase %q: want one of legacy, shadow-write, dual-read, cutover, grace, retain, complete", "Cutover"); err == nil || err.Error() != want {
		t.Errorf("%v", err)
	}
}
