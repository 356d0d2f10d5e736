// Package stats has the bounds and tests that gates and triggers evaluate. It is pure
// arithmetic.
package stats

import (
	"math"
	"time"

	"gonum.org/v1/gonum/mathext"
)

// ClopperPearsonUpper is the one-sided upper bound of a share of which k of n were seen: with
// the given confidence (0.95) the true share is not above it. It returns 1 where the sample
// proves nothing (no sample, or k = n), and NaN for a confidence outside (0, 1) or a k outside
// 0 … n.
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
	return mathext.InvRegIncBeta(float64(k)+1, float64(n-k), confidence)
}

// ClopperPearsonLower is the one-sided lower bound: with the given confidence the true share
// is not below it.
func ClopperPearsonLower(k, n int64, confidence float64) float64 {
	return 1 - ClopperPearsonUpper(n-k, n, confidence)
}

// atMost is the probability of at most k of n, atLeast that of k or more, at a rate p.
func atMost(k, n int64, p float64) float64 {
	if k >= n {
		return 1
	}
	return mathext.RegIncBeta(float64(n-k), float64(k)+1, 1-p)
}

func atLeast(k, n int64, p float64) float64 {
	if k <= 0 {
		return 1
	}
	return mathext.RegIncBeta(float64(k), float64(n-k)+1, p)
}

// RateExceeds reports whether k of n prove a rate above the limit, as one of many evaluations:
// it uses ClopperPearsonLower with the confidence that each evaluation needs for all of them
// together to have the given confidence. With 1-(1-confidence)/evaluations per evaluation the
// sum of the error probabilities is what was allowed (Bonferroni), however much the windows
// overlap. Count all evaluations of the time for which the confidence is meant: two windows,
// evaluated every 10 s, for a day, are EvaluationsPerDay(10*time.Second, 2). It is false where
// the sample proves nothing and for nonsensical arguments.
func RateExceeds(k, n int64, limit, confidence float64, evaluations int64) bool {
	if !(limit > 0 && limit < 1 && confidence > 0 && confidence < 1) || k < 0 || k > n || evaluations < 1 {
		return false
	}
	return float64(k) > float64(n)*limit && atLeast(k, n, limit) < (1-confidence)/float64(evaluations)
}

// EvaluationsPerDay is the number of evaluations in a day of so many windows, one each
// interval.
func EvaluationsPerDay(interval time.Duration, windows int) int64 {
	return int64(windows) * int64((24*time.Hour+interval-1)/max(interval, 1))
}
