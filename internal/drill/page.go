package drill

import (
	"bytes"
	_ "embed"
	"html/template"
	"time"

	"github.com/stranglerfig/migrator/phases"
)

var verdicts = []phases.Verdict{phases.Quiet, phases.Firing, phases.NoData, phases.Inconclusive, phases.Error}

//go:embed page.html
var pageText string

// Page is the report as one HTML page that loads nothing from anywhere.
func (r *Report) Page() ([]byte, error) {
	t, err := template.New("page").Funcs(template.FuncMap{
		"stamp": stamp, "short": short,
		"clock":  func(t time.Time) string { return t.UTC().Format("15:04:05.000") },
		"counts": func(l Observations) string { return l.counts() },
		"next":   func(n int) int { return n + 1 },
	}).Parse(pageText)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	err = t.Execute(&b, struct {
		*Report
		Sentence string
		Rows     [][2]string
		Charts   []template.HTML
	}{r, r.sentence(), r.rows(), []template.HTML{
		r.chart("Operations of the load, per second", "",
			line{"reads", "#2563eb", func(s Second) float64 { return float64(s.Reads) }},
			line{"acknowledged writes", "#16a34a", func(s Second) float64 { return float64(s.Writes) }},
			line{"failed", "#dc2626", func(s Second) float64 { return float64(s.Failed) }}),
		r.chart("99th percentile of clients' latency", " ms",
			line{"reads", "#2563eb", func(s Second) float64 { return s.ReadP99 }},
			line{"writes", "#16a34a", func(s Second) float64 { return s.WriteP99 }}),
	}})
	return b.Bytes(), err
}
