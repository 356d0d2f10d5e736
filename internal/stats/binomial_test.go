package stats_test

import (
	"math"
	"testing"

	"github.com/stranglerfig/migrator/internal/stats"
)

// The samples that Wilks' formula asks for: with n samples of which k fail, 95 %
// of a population are good with 95 % confidence, and with one sample less they
// are not. The numbers are those of the usual tables (59, 93, 124, 153, 181 and,
// for 99 %, 299, 473, 628).
func TestClopperPearsonUpperAgreesWithWilks(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		k, n  int64
		share float64
	}{
		{0, 59, 0.05},
		{1, 93, 0.05},
		{2, 124, 0.05},
		{3, 153, 0.05},
		{4, 181, 0.05},
		{0, 299, 0.01},
		{1, 473, 0.01},
		{2, 628, 0.01},
	} {
		if got := stats.ClopperPearsonUpper(c.k, c.n, 0.95); got > c.share {
			t.Errorf("%d of %d: %v, want at most %v", c.k, c.n, got, c.share)
		}
		if got := stats.ClopperPearsonUpper(c.k, c.n-1, 0.95); got <= c.share {
			t.Errorf("%d of %d: %v, want above %v", c.k, c.n-1, got, c.share)
		}
	}
}

// Two-sided 95 % limits from the published tables, to the four digits they give.
func TestClopperPearsonAgreesWithTables(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		k, n       int64
		low, upper float64
	}{
		{0, 10, 0, 0.3085},
		{1, 10, 0.0025, 0.4450},
		{5, 10, 0.1871, 0.8129},
		{9, 10, 0.5550, 0.9975},
		{10, 10, 0.6915, 1},
		{10, 100, 0.0490, 0.1762},
		{1, 100, 0.0003, 0.0545},
		{50, 100, 0.3983, 0.6017},
	} {
		if got := stats.ClopperPearsonUpper(c.k, c.n, 0.975); math.Abs(got-c.upper) > 0.00006 {
			t.Errorf("upper of %d/%d: %v, want %v", c.k, c.n, got, c.upper)
		}
		if got := stats.ClopperPearsonLower(c.k, c.n, 0.975); math.Abs(got-c.low) > 0.00006 {
			t.Errorf("lower of %d/%d: %v, want %v", c.k, c.n, got, c.low)
		}
	}
}

// The bound is the share at which seeing k or fewer of n has the probability
// 1 - confidence; sum that probability directly, in logs, also for large n.
func TestClopperPearsonUpperInvertsTheBinomial(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ k, n int64 }{{0, 1}, {0, 812331}, {1, 1000000}, {7, 20000}, {250, 100000000}, {99, 100}} {
		p := stats.ClopperPearsonUpper(c.k, c.n, 0.95)
		sum := 0.0
		for i := range c.k + 1 {
			a, _ := math.Lgamma(float64(c.n) + 1)
			b, _ := math.Lgamma(float64(i) + 1)
			d, _ := math.Lgamma(float64(c.n-i) + 1)
			sum += math.Exp(a - b - d + float64(i)*math.Log(p) + float64(c.n-i)*math.Log1p(-p))
		}
		if math.Abs(sum-0.05) > 1e-4 {
			t.Errorf("%d of %d: P(at most k | %v) = %v, want 0.05", c.k, c.n, p, sum)
		}
	}
}

func TestClopperPearsonUpperAtTheEdges(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ k, n int64 }{{0, 0}, {5, 5}} {
		if got := stats.ClopperPearsonUpper(c.k, c.n, 0.95); got != 1 {
			t.Errorf("%d of %d: %v, want 1", c.k, c.n, got)
		}
	}
	for _, c := range []struct {
		k, n       int64
		confidence float64
	}{{-1, 5, 0.95}, {6, 5, 0.95}, {0, -1, 0.95}, {1, 5, 0}, {1, 5, 1}, {1, 5, math.NaN()}} {
		if got := stats.ClopperPearsonUpper(c.k, c.n, c.confidence); !math.IsNaN(got) {
			t.Errorf("%d of %d at %v: %v, want NaN", c.k, c.n, c.confidence, got)
		}
	}
}
