package main

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/stranglerfig/migrator/internal/app"
	"github.com/stranglerfig/migrator/internal/humanize"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/reconcile"
)

// trends are what a terminal shows of a migration as bars and sparklines.
type trends struct {
	read     time.Time // by this process's clock; zero: they were not read
	epoch    int64
	measures []app.Measure
	series   app.Series
	coverage reconcile.Coverage
}

// trendsEvery is how old trends may be: to read them takes longer than to read a status.
const trendsEvery = 5 * time.Second

func readTrends(ctx context.Context, store *state.Store, m *migration.Config, s app.Status, before trends) (t trends, err error) {
	if before.epoch == s.Status.Route.Epoch && time.Since(before.read) < trendsEvery {
		return before, nil
	}
	t = trends{read: time.Now(), epoch: s.Status.Route.Epoch}
	if t.measures, err = app.ReadMeasures(ctx, store, m, s); err != nil {
		return t, err
	}
	if t.coverage, err = app.Coverage(ctx, store, m); err != nil {
		return t, err
	}
	t.series, err = app.ReadSeries(ctx, store, s, t.coverage, before.series)
	return t, err
}

// printTrends prints bars and sparklines; nothing where the output is no terminal.
func (c *cli) printTrends(s app.Status, t trends) {
	columns, _ := size(c.out)
	if columns == 0 || t.read.IsZero() {
		return
	}
	if share, at := rampShare(s.Status.Route); at {
		c.printRows("ramp", []row{{name: string(s.Status.Route.Phase), text: s.Status.Route.Percent.String() + " %", share: share}}, columns)
	}
	var gates, triggers []row
	for _, m := range t.measures {
		if m.Kind == phases.TriggerKind {
			triggers = append(triggers, measureRow(m))
		} else {
			gates = append(gates, measureRow(m))
		}
	}
	c.printRows("measured", gates, columns)
	c.printRows("triggers", triggers, columns)
	c.printRows("reads", readRows(t.series.Timed), columns)
	c.printRows("behind", behindRows(s, t.series.Seen), columns)
	if t.coverage.Runs > 0 {
		c.printRows("covered", []row{{name: "clean runs", text: reconcile.Share(t.coverage.Clean), share: t.coverage.Clean}}, columns)
	}
}

func rampShare(r phases.Route) (share float64, ramped bool) {
	return float64(r.Percent) / float64(phases.All), r.Phase.Ramped()
}

func measureRow(m app.Measure) row {
	r := row{name: m.Name, share: math.NaN(), text: "not evaluated yet"}
	for _, e := range m.Bounds {
		v := e.Bound
		if !e.Bounded() || e.Verdict == phases.NoData || e.Verdict == phases.Error {
			v = math.NaN()
		}
		r.values, r.top = append(r.values, v), e.Limit
	}
	if len(m.Bounds) == 0 {
		return r
	}
	e := m.Bounds[len(m.Bounds)-1]
	r.style = yellow
	switch e.Verdict {
	case phases.Pass, phases.Quiet:
		r.style = green
	case phases.Fail, phases.Firing:
		r.style = red
	}
	switch {
	case e.Verdict == phases.NoData:
		r.share, r.text = 0, "no data"
	case e.Verdict == phases.Error:
		r.share, r.text = 0, "error"
	case !e.Bounded():
		r.share, r.text = 0, "no bound yet"
	case m.Limit == app.NoLimit:
		r.text, r.values = string(e.Verdict), nil
	case m.Limit == app.AtLeast:
		r.share, r.text = shareOf(e), inUnit(m.Unit, e.Bound)+", at least "+inUnit(m.Unit, e.Limit)
	default:
		r.share, r.text = shareOf(e), inUnit(m.Unit, e.Bound)+" of "+inUnit(m.Unit, e.Limit)
	}
	if m.Stale {
		r.style, r.text = yellow, r.text+", old"
	}
	return r
}

// shareOf is how far the bound is to its limit; above 1: beyond it.
func shareOf(e phases.Evaluation) float64 {
	switch {
	case e.Limit > 0:
		return e.Bound / e.Limit
	case e.Limit == 0 && e.Bound > 0:
		return 2
	default:
		return 0
	}
}

func inUnit(u app.Unit, v float64) string {
	switch u {
	case app.UnitShare:
		return fmt.Sprintf("%.3g %%", 100*v)
	case app.UnitSeconds:
		return span(v)
	case app.UnitTimes:
		return fmt.Sprintf("%.3g x", v)
	default:
		return number(v)
	}
}

// span writes seconds; those below one with three digits.
func span(seconds float64) string {
	if seconds < 1 {
		return fmt.Sprintf("%.3g ms", 1000*seconds)
	}
	return humanize.Span(time.Duration(seconds * float64(time.Second)))
}

// readRows are the latencies of both stores; none if no read was timed.
func readRows(timed []app.Timed) []row {
	var of [2]row
	seen := false
	for i, name := range []string{"legacy, p95", "target, p95"} {
		r := row{name: name, text: "none timed lately", share: math.NaN()}
		for _, t := range timed {
			v := []float64{t.Legacy, t.Target}[i]
			r.values = append(r.values, v)
			if isNumber(v) {
				r.text, seen = span(v), true
			}
		}
		of[i] = r
	}
	if !seen {
		return nil
	}
	// One scale: their lines are compared.
	for _, v := range append(append([]float64{}, of[0].values...), of[1].values...) {
		if isNumber(v) {
			of[0].top = max(of[0].top, v)
		}
	}
	of[1].top = of[0].top
	return of[:]
}

// behindRows are how far the target is behind; what has not been behind is left out.
func behindRows(s app.Status, seen []app.Seen) (rows []row) {
	keys, lag := row{share: math.NaN()}, row{share: math.NaN()}
	behind := false
	for _, one := range seen {
		keys.values, lag.values = append(keys.values, float64(one.Journal)), append(lag.values, one.Capture)
		behind = behind || one.Journal > 0
	}
	if behind {
		keys.name, keys.text = "journal", humanize.Counted(s.Status.JournalKeys, "key")
		rows = append(rows, keys)
	}
	if of := s.Snapshot.Capture; of != nil && s.Capture.On() && s.Status.Route.Phase.Captured() {
		lag.name, lag.text = "capture", humanize.Span(of.Behind(s.Snapshot.Now))
		rows = append(rows, lag)
	}
	return rows
}
