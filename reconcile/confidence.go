package reconcile

import (
	"fmt"
	"math"
	"strconv"

	"github.com/stranglerfig/migrator/internal/stats"
)

// confidence of a claim.
const confidence = 0.95

// Claim writes in one line what a run proves: "0 of 812,331 differ: below
// 0.0004 % at 95 % confidence". The bound is Clopper and Pearson's for a share of
// records drawn one by one.
//
// A sampled run draws places (stretches of blocks) instead, in which damage may
// cluster: the records of a failed batch are neighbours. So it states two bounds. The
// second takes places as what was drawn, whatever is in them: at most as many are
// damaged as there were differences, and of a damaged one all may be.
func Claim(run Run) string {
	n := run.Checked + run.Classes[Extra] + run.Classes[EqualKey]
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
	young := young(&run, &k)
	text := fmt.Sprintf("%s of %s differ", grouped(k), grouped(n))
	if run.Full {
		text = fmt.Sprintf("%s of %s differ", grouped(run.Differences), grouped(n))
	}
	digits := 1
	if k > 0 {
		text += " (" + percent(float64(k)/float64(n), 2, math.Round) + ")"
		digits = 2
	}
	if k < n {
		text += ": below " + bound(k, n, digits) + " at 95 % confidence"
	}
	if !run.Full {
		text += " if damage is spread evenly"
		if bad := min(k, run.Places); bad < run.Places {
			text += fmt.Sprintf(", below %s however it is clustered (%s places)", bound(bad, run.Places, 2), grouped(run.Places))
		}
		text += fmt.Sprintf("; slice %d of %d%s", run.Slice+1, run.Slices, young)
	}
	return text
}

func bound(k, n int64, digits int) string {
	return percent(stats.ClopperPearsonUpper(k, n, confidence), digits, math.Ceil)
}

// young writes what the sample of young records found, and takes it off the differences k.
func young(run *Run, k *int64) string {
	if run.Recent == 0 {
		return ""
	}
	found := min(run.RecentDifferent, run.Recent)
	*k = max(0, *k-run.RecentOnly)
	text := fmt.Sprintf("; of young records %s of %s", grouped(found), grouped(run.Recent))
	if found < run.Recent {
		text += ": below " + bound(found, run.Recent, 2)
	}
	return text
}

func ended(s Status) string {
	if s == Running {
		return "is still running,"
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
