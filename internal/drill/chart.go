package drill

import (
	"fmt"
	"html"
	"html/template"
	"math"
	"strconv"
	"strings"
	"time"
)

// line is one series of a chart.
type line struct {
	name, colour string
	of           func(Second) float64
}

const (
	chartWidth, chartHeight = 880, 200
	chartLeft, chartBottom  = 56, 24
)

// chart draws lines over the load's seconds, with the drill's marks, as SVG that needs
// nothing else.
func (r *Report) chart(title, unit string, lines ...line) template.HTML {
	if len(r.Series) < 2 {
		return ""
	}
	from, until := r.Series[0].At, r.Series[len(r.Series)-1].At.Add(time.Second)
	most := 1.0
	for _, s := range r.Series {
		for _, l := range lines {
			most = max(most, l.of(s))
		}
	}
	most = ceiling(most)
	x := func(t time.Time) float64 {
		return chartLeft + t.Sub(from).Seconds()/until.Sub(from).Seconds()*(chartWidth-chartLeft-8)
	}
	y := func(v float64) float64 { return 8 + (1-v/most)*(chartHeight-chartBottom-8) }
	var b strings.Builder
	fmt.Fprintf(&b, `<figure><figcaption>%s`, html.EscapeString(title))
	for _, l := range lines {
		fmt.Fprintf(&b, ` <span style="color:%s">&#9632;</span> %s`, l.colour, html.EscapeString(l.name))
	}
	fmt.Fprintf(&b, `</figcaption><svg viewBox="0 0 %d %d" role="img" aria-label="%s">`, chartWidth, chartHeight, html.EscapeString(title))
	for n := range 5 {
		v := most * float64(n) / 4
		fmt.Fprintf(&b, `<line class="grid" x1="%d" x2="%d" y1="%.1f" y2="%.1f"/><text x="%d" y="%.1f" text-anchor="end">%s</text>`,
			chartLeft, chartWidth-8, y(v), y(v), chartLeft-6, y(v)+4, html.EscapeString(strconv.FormatFloat(v, 'g', 4, 64)+unit))
	}
	for n := range 7 {
		at := from.Add(time.Duration(float64(until.Sub(from)) * float64(n) / 6))
		fmt.Fprintf(&b, `<text x="%.1f" y="%d" text-anchor="middle">%s</text>`, x(at), chartHeight-6, at.UTC().Format("15:04:05"))
	}
	for n, m := range r.Marks {
		if m.At.Before(from) || m.At.After(until) {
			continue
		}
		fmt.Fprintf(&b, `<line class="mark" x1="%.1f" x2="%.1f" y1="8" y2="%d"><title>%s at %s</title></line><text class="mark" x="%.1f" y="%d">%d</text>`,
			x(m.At), x(m.At), chartHeight-chartBottom, html.EscapeString(m.What), m.At.UTC().Format("15:04:05.000"), x(m.At)+2, 16+n%4*11, n+1)
	}
	for _, l := range lines {
		points := make([]string, len(r.Series))
		for i, s := range r.Series {
			points[i] = fmt.Sprintf("%.1f,%.1f", x(s.At.Add(time.Second/2)), y(l.of(s)))
		}
		fmt.Fprintf(&b, `<polyline fill="none" stroke="%s" stroke-width="1.6" points="%s"/>`, l.colour, strings.Join(points, " "))
	}
	b.WriteString(`</svg></figure>`)
	return template.HTML(b.String()) //nolint:gosec // numbers, and texts that are escaped above
}

// ceiling is a round number that is not below v.
func ceiling(v float64) float64 {
	unit := math.Pow(10, math.Floor(math.Log10(v)))
	for _, m := range []float64{1, 2, 4, 5, 8, 10} {
		if v <= m*unit {
			return m * unit
		}
	}
	return v
}
