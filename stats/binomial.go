// Package stats holds the bounds and tests that evidence is judged by. It is
// pure arithmetic.
package stats

import (
	"math"

	"gonum.org/v1/gonum/stat/distuv"
)

// ClopperPearsonUpper is the one-sided upper bound of a share of which k of n
// were seen: with the given confidence (0.95) the true share is not above it.
// It returns 1 where nothing can be said (no sample, or all of it), and NaN for
// a confidence outside (0, 1) or a k outside 0 … n.
//
// Clopper and Pearson, Biometrika 26 (1934), in its Beta form.
func ClopperPearsonUpper(k, n int64, confidence float64) float64 {
	switch {
	case !(confidence > 0 && confidence < 1) || k < 0 || n < 0 || k > n:
		return math.NaN()
	case k == n:
		return 1
	case k == 0:
		return -math.Expm1(math.Log1p(-confidence) / float64(n))
	}
	return distuv.Beta{Alpha: float64(k) + 1, Beta: float64(n - k)}.Quantile(confidence)
}

// ClopperPearsonLower is the one-sided lower bound: with the given confidence
// the true share is not below it.
func ClopperPearsonLower(k, n int64, confidence float64) float64 {
	return 1 - ClopperPearsonUpper(n-k, n, confidence)
}
