package stats_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stranglerfig/migrator/internal/stats"
)

// The tables that operators plan with are what the code computes.
func TestDocumentedSampleSizes(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("../../docs/statistics.md")
	if err != nil {
		t.Fatal(err)
	}
	document := string(b)
	want := func(row string) {
		if !strings.Contains(document, row+"\n") {
			t.Errorf("docs/statistics.md lacks the row\n%s", row)
		}
	}
	for _, limit := range []float64{0.01, 0.005, 0.001, 0.0001, 0.00001} {
		row := fmt.Sprintf("| %s | %s", percent(limit), thousands(stats.SampleNeeded(limit, 0.95)))
		for _, share := range []float64{0.1, 0.25, 0.5} {
			n, ok := stats.SampleExpected(limit, 0.95, share*limit)
			if !ok {
				t.Fatalf("never at %v of %v", share, limit)
			}
			row += " | " + thousands(n)
		}
		want(row + " |")
	}
	for _, k := range []int64{0, 1, 2, 5, 10} {
		const n = 10_000
		want(fmt.Sprintf("| %d | %s | %s | %s |", k, percent(float64(k)/n),
			percent(stats.ClopperPearsonUpper(k, n, 0.95)), percent(stats.AnytimeUpper(k, n, 0.95))))
	}
	for _, q := range []float64{0.5, 0.95, 0.99, 0.999} {
		want(fmt.Sprintf("| p%v | %s | %s |", 100*q, thousands(stats.QuantileSample(q, 0.95)), thousands(stats.QuantileSample(q, 0.99))))
	}
	c := stats.CUSUM{Limit: 0.005}
	for _, rate := range []float64{0.0025, 0.005, 0.01, 0.02, 0.05} {
		want(fmt.Sprintf("| %s | %s |", percent(rate), rough(c.RunLength(rate))))
	}
}

func percent(share float64) string { return fmt.Sprintf("%.3g %%", 100*share) }

func thousands(n int64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// rough keeps two digits: a run length is an average of widely scattered ones.
func rough(n float64) string {
	s := fmt.Sprintf("%.0f", n)
	if len(s) > 2 {
		s = s[:2] + strings.Repeat("0", len(s)-2)
	}
	var v int64
	_, _ = fmt.Sscan(s, &v)
	return thousands(v)
}
