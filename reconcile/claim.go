package reconcile

import (
	"fmt"
	"math"
	"strconv"

	"github.com/stranglerfig/migrator/stats"
)

// confidence of a claim.
const confidence = 0.95

// Claim says in one line what a run lets one state: "0 of 812,331 differ: below
// 0.0004 % at 95 % confidence". The bound is Clopper and Pearson's for a share of
// records drawn one by one. A sampled run draws blocks, in which damage may keep
// company; its claim says so.
func Claim(run Run) string {
	n := run.Checked + run.Classes[Extra]
	k := min(run.Differences, n)
	if run.Status != Done {
		return fmt.Sprintf("nothing: the run %s after %s records", ended(run.Status), grouped(run.Checked))
	}
	n -= min(run.Unsettled, n-k)
	if n == 0 {
		if run.Full {
			return "nothing: legacy has no records"
		}
		return "nothing: the slice holds no records"
	}
	text := fmt.Sprintf("%s of %s differ", grouped(run.Differences), grouped(n))
	digits := 1
	if k > 0 {
		text += " (" + percent(float64(k)/float64(n), 2, math.Round) + ")"
		digits = 2
	}
	if k < n {
		text += ": below " + percent(stats.ClopperPearsonUpper(k, n, confidence), digits, math.Ceil) + " at 95 % confidence"
	}
	if !run.Full {
		text += fmt.Sprintf(", if damage is spread evenly; sampled by blocks, slice %d of %d", run.Slice+1, run.Slices)
	}
	return text
}

func ended(s Status) string {
	if s == Running {
		return "is still under way,"
	}
	return "was stopped"
}

// percent writes a share in per cent with so many significant digits.
func percent(share float64, digits int, round func(float64) float64) string {
	p := share * 100
	if p <= 0 {
		return "0 %"
	}
	decimals := digits - 1 - int(math.Floor(math.Log10(p)))
	unit := math.Pow(10, float64(decimals))
	// A bound that is a round number must not be pushed up by the last bit.
	p = min(round(p*unit-1e-9)/unit, 100)
	return strconv.FormatFloat(p, 'f', max(0, decimals), 64) + " %"
}

// grouped writes 812331 as 812,331.
func grouped(n int64) string {
	s := strconv.FormatInt(n, 10)
	from := 0
	if n < 0 {
		from = 1
	}
	for at := len(s) - 3; at > from; at -= 3 {
		s = s[:at] + "," + s[at:]
	}
	return s
}
