package main

import (
	"fmt"
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/stranglerfig/migrator/internal/humanize"
)

// progress prints a long job's progress: a bar on a terminal, a plain line
// every few seconds elsewhere, both on stderr.
type progress struct {
	c     *cli
	what  string
	began time.Time
	start int64 // done before this process began: not part of its rate
	every time.Duration

	mu     sync.Mutex
	last   time.Time
	first  bool
	moving bool
	bar    *mpb.Bar
	bars   *mpb.Progress
}

func (c *cli) progress(what string) *progress {
	p := &progress{c: c, what: what, began: time.Now(), every: 5 * time.Second, first: true}
	if c.settings.Output != outputJSON && isTerminal(c.err) {
		p.bars = mpb.New(mpb.WithOutput(c.err), mpb.WithWidth(40), mpb.WithRefreshRate(200*time.Millisecond))
	}
	return p
}

// set reports that done of total units are done; total may still be an estimate.
func (p *progress) set(done, total int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.first:
		p.start, p.first = done, false
	case !p.moving && done > p.start:
		p.start, p.began, p.moving = done, time.Now(), true // the wait before the first unit is not part of the rate
	}
	total = max(total, done)
	if p.bars != nil {
		p.draw(done, total)
		return
	}
	if p.c.quiet || time.Since(p.last) < p.every {
		return
	}
	p.last = time.Now()
	if total == 0 {
		p.c.note("%s: preparing", p.what)
		return
	}
	// The total is an estimate, and may count both stores' records: no number of it is shown.
	line := fmt.Sprintf("%s: about %d %% done", p.what, min(100*done/total, 99))
	if took := time.Since(p.began).Seconds(); p.moving && took > 1 && done > p.start {
		rate := float64(done-p.start) / took
		eta := time.Duration(float64(total-done) / rate * float64(time.Second))
		line += ", " + humanize.Count(int64(rate)) + "/s, " + humanize.Span(eta) + " left"
	}
	p.c.note("%s", line)
}

func (p *progress) draw(done, total int64) {
	if p.bar == nil {
		p.bar = p.bars.AddBar(total,
			mpb.PrependDecorators(decor.Name(p.what+" "), decor.Percentage()),
			mpb.AppendDecorators(decor.AverageSpeed(0, "%.0f/s "), decor.AverageETA(decor.ET_STYLE_GO)),
		)
		p.bar.SetRefill(done)
	}
	p.bar.SetTotal(total, false)
	p.bar.SetCurrent(done)
}

// close removes the bar from the terminal.
func (p *progress) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bar != nil {
		p.bar.Abort(true)
		p.bars.Wait()
	}
}
