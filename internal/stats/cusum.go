package stats

import "math"

// CUSUM watches a rate for a rise above a limit: Page's cumulative sum (Biometrika 41, 1954)
// of the log likelihood ratio of twice the limit to half of it. An error adds ln 4; a success
// subtracts a little (0.00755 for a limit of 0.5 %); the score never goes below 0. At FireAt
// the rate has risen, by odds of e^14 to 1 against half the limit.
//
// Counts come in batches without an order. A batch's sum is added as a whole and evaluated at
// its end, as if its errors came first: the score is then never above the score that the true
// order would give at that moment, so batches cause no false alarm that single requests would
// not. It is below that score by at most the batch's successes' share, 0.00755 each: for a
// batch of 100 that delays firing at 2 % errors by less than 100 requests. Evaluating before
// the successes are subtracted, or subtracting them first and stopping at 0, would fire on
// every batch that has ten errors, however many successes it has.
//
// The zero Score is the start. A Limit that is not above 0 and below ½, or nonsensical counts,
// make the score NaN, which never fires.
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

// Fires reports whether the score is at FireAt or above.
func (c *CUSUM) Fires() bool { return c.Score >= FireAt }

// steps returns what an error adds and what a success subtracts.
func (c *CUSUM) steps() (up, down float64) {
	if !(c.Limit > 0 && c.Limit < 0.5) {
		return math.NaN(), math.NaN()
	}
	return math.Log(4), math.Log1p(-c.Limit/2) - math.Log1p(-2*c.Limit)
}

// RunLength is the average number of requests until a CUSUM with a score of 0 fires, at a true
// rate of errors. For an acceptable rate it is the distance between two false alarms; for a
// higher rate, the time to detection. It is within 2 % for limits up to 1 %, and takes
// milliseconds. It solves the Markov chain of Brook and Evans (Biometrika 59, 1972) on a grid
// of scores, one cell of which is what a whole number of successes subtracts.
func (c *CUSUM) RunLength(rate float64) float64 {
	up, down := c.steps()
	if math.IsNaN(up) || !(rate > 0 && rate < 1) {
		return math.NaN()
	}
	run := max(1, math.Floor(up/down/128)) // successes that are one cell
	scores := int(math.Ceil(FireAt / (run * down)))
	quiet := math.Pow(1-rate, run) // no error in a run
	wait := (1 - quiet) / rate     // requests until the run's end or an error
	// An error comes (run-1)/2 successes into the run, and leads that many cells up:
	// between two, in shares. From 0 there was nowhere down to go.
	fromZero := up / (run * down)
	jump := fromZero - (run-1)/(2*run)
	band := int(fromZero) + 1
	// x[s] is the run length from score s, 0 from scores on. Eliminate downwards, so that
	// x[s] = constant[s] + Σ weight[s][j]·x[s+j], j from 1 on.
	constant := make([]float64, scores)
	weight := make([][]float64, scores)
	for s := range scores {
		w := make([]float64, band+1)
		add := func(cells, share float64) {
			whole, part := math.Modf(cells)
			w[int(whole)] += share * (1 - part)
			w[min(int(whole)+1, band)] += share * part
		}
		if s == 0 {
			constant[0] = 1 / rate
			add(fromZero, 1)
		} else {
			before := weight[s-1]
			scale := 1 / (1 - quiet*before[1])
			constant[s] = scale * (wait + quiet*constant[s-1])
			for j := 1; j < band; j++ {
				w[j] = scale * quiet * before[j+1]
			}
			add(jump, scale*(1-quiet))
		}
		weight[s] = w
	}
	x := make([]float64, scores+band)
	for s := scores - 1; s >= 0; s-- {
		x[s] = constant[s]
		for j := 1; j <= band; j++ {
			x[s] += weight[s][j] * x[s+j]
		}
	}
	return x[0]
}
