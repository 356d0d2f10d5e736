package page

import (
	"fmt"
	"math"
	"time"

	"github.com/stranglerfig/migrator/internal/humanize"
)

// chart is what a chart draws, and says.
type chart struct {
	ID, Title string
	Says      string // in a sentence, for who does not see the chart
	Unit      string
	Names     []string
	Data      [][]*float64 // the times, and one list for each name
	Rows      [][]string   // the newest points, oldest first
}

const chartRows = 6

// Charts are the migration's.
func (s shown) Charts() []chart { return []chart{s.mismatches(), s.latencies(), s.lag(), s.covered()} }

func value(f float64) *float64 {
	if math.IsNaN(f) || math.IsInf(f, 0) || math.Abs(f) >= 9e9 {
		return nil
	}
	return &f
}

// percent writes a share.
func percent(f float64) string { return fmt.Sprintf("%.3g %%", 100*f) }

// add adds a point.
func (c *chart) add(at time.Time, values ...float64) {
	if c.Data == nil {
		c.Data = make([][]*float64, 1+len(c.Names))
	}
	c.Data[0] = append(c.Data[0], value(float64(at.UnixMilli())/1000))
	row := []string{at.UTC().Format(time.TimeOnly)}
	for i, v := range values {
		c.Data[i+1] = append(c.Data[i+1], value(v))
		row = append(row, c.text(v))
	}
	c.Rows = append(c.Rows, row)
	c.Rows = c.Rows[max(0, len(c.Rows)-chartRows):]
}

func (c *chart) text(v float64) string {
	switch {
	case value(v) == nil:
		return "–"
	case c.Unit == "%":
		return fmt.Sprintf("%.3g %%", v)
	}
	return number(v) + " " + c.Unit
}

func (s shown) mismatches() chart {
	c := chart{ID: "mismatch", Title: "Mismatches between the stores", Unit: "%", Names: []string{"measured", "bound", "limit"}}
	c.Says = "No comparison is judged on this route."
	for _, e := range s.Bounds {
		c.add(e.At, 100*e.Value, 100*e.Bound, 100*e.Limit)
	}
	if n := len(s.Bounds); n > 0 {
		e := s.Bounds[n-1]
		c.Says = fmt.Sprintf("Mismatch %s of %s, bound %s of %s allowed.", percent(e.Value), humanize.Counted(e.Samples, "comparison"), percent(e.Bound), percent(e.Limit))
	}
	return c
}

func (s shown) latencies() chart {
	c := chart{ID: "latency", Title: "Reads, 95th percentile", Unit: "ms", Names: []string{"legacy", "target"}}
	c.Says = "No read was timed in the last hour."
	for _, t := range s.Series.Timed {
		c.add(t.At, 1000*t.Legacy, 1000*t.Target)
		if value(t.Legacy) != nil || value(t.Target) != nil {
			c.Says = fmt.Sprintf("Lately legacy %s, target %s.", c.text(1000*t.Legacy), c.text(1000*t.Target))
		}
	}
	return c
}

func (s shown) lag() chart {
	c := chart{ID: "lag", Title: "How far the target is behind", Unit: "", Names: []string{"journaled keys"}}
	capture := s.Capture.On()
	if capture {
		c.Names = append(c.Names, "capture, seconds")
	}
	for _, one := range s.Series.Seen {
		if capture {
			c.add(one.At, float64(one.Journal), one.Capture)
		} else {
			c.add(one.At, float64(one.Journal))
		}
	}
	c.Says = humanize.Counted(s.St().JournalKeys, "journaled key") + "."
	if capture && s.Snapshot.Capture != nil {
		c.Says += " Change capture is " + humanize.Span(s.Snapshot.Capture.Behind(s.Now())) + " behind."
	}
	return c
}

func (s shown) covered() chart {
	c := chart{ID: "coverage", Title: "Coverage of legacy by clean reconcile runs", Unit: "%", Names: []string{"covered"}}
	for _, one := range s.Series.Seen {
		c.add(one.At, 100*one.Coverage)
	}
	c.Says = s.Coverage.String() + "."
	return c
}
