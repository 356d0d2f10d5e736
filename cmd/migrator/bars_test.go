package main

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stranglerfig/migrator/internal/app"
	"github.com/stranglerfig/migrator/phases"
)

func TestBars(t *testing.T) {
	t.Parallel()
	nan, inf := math.NaN(), math.Inf(1)
	for _, test := range []struct {
		share float64
		cells int
		want  string
	}{
		{0, 10, "[----------]"},
		{0.099, 10, "[----------]"},
		{0.6, 10, "[######----]"},
		{0.999999, 10, "[#########-]"}, // not full before the limit
		{1, 10, "[##########]"},
		{1.0001, 10, "[#########>]"},
		{inf, 4, "[###>]"},
		{-inf, 4, "[----]"},
		{-0.5, 4, "[----]"},
		{nan, 4, "[----]"},
		{0.5, 1, "[-]"},
		{1, 1, "[#]"},
		{7, 1, "[>]"},
		{0.5, 0, ""},
		{2, -3, ""},
	} {
		if got := bar(test.share, test.cells); got != test.want {
			t.Errorf("bar(%v, %d) is %q, want %q", test.share, test.cells, got, test.want)
		}
	}
}

func TestSparklines(t *testing.T) {
	t.Parallel()
	nan, inf := math.NaN(), math.Inf(1)
	for _, test := range []struct {
		values  []float64
		top     float64
		columns int
		want    string
	}{
		{nil, 1, 10, ""},
		{[]float64{0, 0, 0}, 0, 10, "▁▁▁"},
		{[]float64{0, 1, 2, 3, 4, 5, 6, 7}, 0, 10, "▁▂▃▄▅▆▇▇"},
		{[]float64{0.1, 0.1}, 1, 10, "▁▁"},        // far from the limit
		{[]float64{0.9, 1}, 1, 10, "▇▇"},          // at the limit
		{[]float64{1, 2, 4}, 1, 10, "▂▄▇"},        // over it
		{[]float64{7, 0, 7}, 0, 2, "▁▇"},          // the newest
		{[]float64{7, nan, inf, 7}, 0, 9, "▇  ▇"}, // gaps
		{[]float64{-1, 1}, 0, 9, "▁▇"},
		{[]float64{1}, inf, 9, "▁"},
		{[]float64{1}, nan, 9, "▁"},
		{[]float64{1, 2}, 1, 0, ""},
		{[]float64{1, 2}, 1, -4, ""},
	} {
		if got := spark(test.values, test.top, test.columns, blockLevels); got != test.want {
			t.Errorf("spark(%v, %v, %d) is %q, want %q", test.values, test.top, test.columns, got, test.want)
		}
	}
	if got := spark([]float64{0, 1, 2, 3, 4, 5, 6, 7}, 0, 10, asciiLevels); got != "_.-:=+##" {
		t.Errorf("in ASCII: %q", got)
	}
}

func TestTheLocaleDecidesOnSparklines(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		env  map[string]string
		want bool
	}{
		{map[string]string{"LANG": "C.UTF-8"}, true},
		{map[string]string{"LANG": "de_DE.utf8"}, true},
		{map[string]string{"LANG": "C.UTF-8", "LC_ALL": "C"}, false},
		{map[string]string{"LANG": "C", "LC_CTYPE": "en_US.UTF-8"}, true},
		{map[string]string{"LANG": "de_DE.ISO-8859-1"}, false},
		{nil, false},
	} {
		if got := utf8Locale(func(name string) string { return test.env[name] }); got != test.want {
			t.Errorf("%v: %v", test.env, got)
		}
	}
}

// TestRowsFitTheirTerminal: at each width no line is wider than the terminal, and what a row says in words is on it
// whole. The bars stay where they are when numbers change.
func TestRowsFitTheirTerminal(t *testing.T) {
	t.Parallel()
	rows := func(text string, share float64) []row {
		return []row{
			{name: "consistency", text: text, share: share, values: []float64{3, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}, top: 2},
			{name: strings.Repeat("n", 60), text: "no data", share: math.NaN()},
		}
	}
	drawn := func(columns int, of []row) string {
		path := filepath.Join(t.TempDir(), "out")
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		c := &cli{streams: streams{out: f}}
		c.printRows("measured", of, columns)
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	for _, columns := range []int{20, 40, 60, 80, 120, 400} {
		text := fit(drawn(columns, rows("0.35 % of 2 %", 0.175)), columns, 100)
		for line := range strings.Lines(text) {
			if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > columns {
				t.Errorf("%d columns: a line of %d: %q", columns, n, line)
			}
		}
		if !strings.Contains(strings.Join(strings.Fields(text), " "), "0.35 % of 2 %") {
			t.Errorf("%d columns: the numbers are not whole:\n%s", columns, text)
		}
		if has := strings.Contains(text, "["); has != (columns >= 80) {
			t.Errorf("%d columns: a bar: %v\n%s", columns, has, text)
		}
		other := fit(drawn(columns, rows("12.3 % of 2 %", 6)), columns, 100)
		if strings.IndexByte(text, ']') != strings.IndexByte(other, ']') {
			t.Errorf("%d columns: the bar has moved:\n%s%s", columns, text, other)
		}
	}
}

// TestMeasuresAsRows: what a bar says of each kind of evaluation.
func TestMeasuresAsRows(t *testing.T) {
	t.Parallel()
	one := func(verdict phases.Verdict, bound, limit float64) []phases.Evaluation {
		return []phases.Evaluation{{Verdict: verdict, Bound: bound, Limit: limit}}
	}
	for _, test := range []struct {
		m     app.Measure
		share float64
		text  string
		style string
	}{
		{app.Measure{}, math.NaN(), "not evaluated yet", ""},
		{app.Measure{Unit: app.UnitShare, Limit: app.AtMost, Bounds: one(phases.Pass, 0.0035, 0.02)}, 0.175, "0.35 % of 2 %", green},
		{app.Measure{Unit: app.UnitShare, Limit: app.AtMost, Bounds: one(phases.Fail, 0.04, 0.02)}, 2, "4 % of 2 %", red},
		{app.Measure{Unit: app.UnitShare, Limit: app.AtMost, Bounds: one(phases.NoData, 1, 0.02)}, 0, "no data", yellow},
		{app.Measure{Unit: app.UnitShare, Limit: app.AtMost, Bounds: one(phases.Pass, 0.0035, 0.02), Stale: true}, 0.175, "0.35 % of 2 %, old", yellow},
		{app.Measure{Unit: app.UnitSeconds, Limit: app.AtMost, Bounds: one(phases.Inconclusive, 0.004, 0.02)}, 0.2, "4 ms of 20 ms", yellow},
		{app.Measure{Unit: app.UnitSeconds, Limit: app.AtMost, Bounds: one(phases.Inconclusive, 9e9, 0.02)}, 0, "no bound yet", yellow},
		{app.Measure{Unit: app.UnitTimes, Limit: app.AtMost, Bounds: one(phases.Firing, 3, 2)}, 1.5, "3 x of 2 x", red},
		{app.Measure{Limit: app.AtMost, Bounds: one(phases.Quiet, 0, 0)}, 0, "0 of 0", green},
		{app.Measure{Limit: app.AtMost, Bounds: one(phases.Firing, 1, 0)}, 2, "1 of 0", red},
		{app.Measure{Limit: app.AtLeast, Bounds: one(phases.Fail, 0.5, 1)}, 0.5, "0.5, at least 1", red},
		{app.Measure{Limit: app.NoLimit, Bounds: one(phases.Fail, 0, 0)}, math.NaN(), "fail", red},
		{app.Measure{Limit: app.AtMost, Bounds: one(phases.Error, 0, 1)}, 0, "error", yellow},
	} {
		got := measureRow(test.m)
		if math.IsNaN(got.share) != math.IsNaN(test.share) || math.Abs(got.share-test.share) > 1e-9 || got.text != test.text || got.style != test.style {
			t.Errorf("%+v: %v %q %q, want %v %q %q", test.m, got.share, got.text, got.style, test.share, test.text, test.style)
		}
	}
}

// TestTrendsAsRows: both stores' latencies have one scale, and what was never behind is left out.
func TestTrendsAsRows(t *testing.T) {
	t.Parallel()
	nan := math.NaN()
	if got := readRows([]app.Timed{{Legacy: nan, Target: nan}}); got != nil {
		t.Errorf("nothing was timed: %+v", got)
	}
	got := readRows([]app.Timed{{Legacy: 0.002, Target: nan}, {Legacy: 0.001, Target: nan}, {Legacy: nan, Target: nan}})
	if len(got) != 2 || got[0].text != "1 ms" || got[1].text != "none timed lately" || got[0].top != 0.002 || got[1].top != 0.002 {
		t.Errorf("the newest that was timed, on the scale of the slowest: %+v", got)
	}
	s := app.Status{Status: phases.Status{JournalKeys: 1}}
	if got := behindRows(s, []app.Seen{{Capture: nan}, {Capture: nan}}); len(got) != 0 {
		t.Errorf("nothing was behind: %+v", got)
	}
	if got := behindRows(s, []app.Seen{{Journal: 7, Capture: nan}, {Journal: 1, Capture: nan}}); len(got) != 1 || got[0].text != "1 key" || len(got[0].values) != 2 {
		t.Errorf("keys are behind: %+v", got)
	}
}
