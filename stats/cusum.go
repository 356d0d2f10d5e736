package stats

import "math"

// CUSUM watches a rate for a rise above a limit: Page's cumulative sum (Biometrika 41,
// 1954) of the log likelihood ratio of twice the limit to half of it. An error adds
// ln 4; a success takes a little away (0.00755 for a limit of 0.5 %); below 0 it does
// not go. At FireAt the rate has risen, by odds of e^14 to 1 against half the limit.
//
// Counts come in batches without an order. A batch's sum is added as a whole and judged
// at its end, as if its errors came first: the score is then never above the one that the
// true order would give at that moment, so batches cause no false alarm that single
// requests would not. It is below it by at most the batch's successes' share, 0.00755
// each: for a batch of 100 that delays firing at 2 % errors by less than 100 requests.
// Judging before the successes are subtracted, or subtracting them first and stopping at
// 0, would fire on every batch that has ten errors, however many successes it has.
//
// The zero Score is a quiet beginning. A Limit that is not above 0 and below ½, or
// counts that make no sense, make the score NaN, which never fires.
type CUSUM struct {
	Limit float64 // errors as a share of all, as 0.005
	Score float64
}

// FireAt is the score at which a CUSUM fires.
const FireAt = 14

// Add counts n requests of which k failed.
func (c *CUSUM) Add(n, k int64) {
	up, down := c.steps()
	if k < 0 || k > n {
		up = math.NaN()
	}
	c.Score = max(0, c.Score+float64(k)*up-float64(n-k)*down)
}

// Fires says whether the score is at FireAt or above.
func (c *CUSUM) Fires() bool { return c.Score >= FireAt }

// steps returns what an error adds and what a success takes away.
func (c *CUSUM) steps() (up, down float64) {
	if !(c.Limit > 0 && c.Limit < 0.5) {
		return math.NaN(), math.NaN()
	}
	return math.Log(4), math.Log1p(-c.Limit/2) - math.Log1p(-2*c.Limit)
}

// RunLength is the number of requests that a CUSUM with a score of 0 takes to fire on
// average, at a true rate of errors: of a rate that is all right, how many requests lie
// between two false alarms; of another, how soon it is found. It is within 2 % for limits
// up to 1 %. It solves the Markov chain of Brook and Evans (Biometrika 59, 1972) on a grid
// of scores, on which an error is perStep cells up, and one cell down are as many
// successes, in fractions, as it takes.
func (c *CUSUM) RunLength(rate float64) float64 {
	const perStep = 128
	up, down := c.steps()
	if math.IsNaN(up) || !(rate > 0 && rate < 1) {
		return math.NaN()
	}
	size := up / perStep
	scores := int(math.Ceil(FireAt / size))
	quiet := math.Pow(1-rate, size/down) // no error on the way one cell down
	wait := (1 - quiet) / rate           // requests until there, or until an error
	// x[s] is the run length from score s: 0 from scores on. Eliminate downwards, so
	// that x[s] = constant[s] + Σ weight[s][j]·x[s+1+j]; an error on the way from s to
	// s-1 leads to either's score and perStep more.
	constant := make([]float64, scores)
	weight := make([][perStep]float64, scores)
	constant[0] = 1 / rate
	weight[0][perStep-1] = 1
	for s := 1; s < scores; s++ {
		before := &weight[s-1]
		scale := 1 / (1 - quiet*before[0])
		constant[s] = scale * (wait + quiet*constant[s-1])
		for j := range perStep - 1 {
			weight[s][j] = scale * quiet * before[j+1]
		}
		weight[s][perStep-1] = scale * (1 - quiet) / 2
		weight[s][perStep-2] += scale * (1 - quiet) / 2
	}
	x := make([]float64, scores+perStep)
	for s := scores - 1; s >= 0; s-- {
		x[s] = constant[s]
		for j, w := range weight[s] {
			x[s] += w * x[s+1+j]
		}
	}
	return x[0]
}
