package reconcile_test

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/internal/test/pairtest"
)

// BenchmarkFalseAlarms runs full reconciles beside writers that never rest, half of
// whose target writes come late, on few enough records for each run to meet many of
// them under way. No write is lost, so whatever is confirmed is a false alarm: any
// fails the benchmark. Suspects are what a comparison without a recheck would
// have reported.
func BenchmarkFalseAlarms(b *testing.B) {
	const ids, writers, within = 5000, 4, 2 * time.Second
	p := pairtest.New(b, pairtest.Options{})
	p.FillSimple(b, 0, ids)
	p.Exec(b, "ANALYZE items")
	barrier := runBackfill(b, p).Barrier
	rc, ledger := reconciler(p)
	rc.NotAfter, rc.Barrier = within, barrier
	w := &writer{t: b, p: p, ledger: ledger, delay: within / 4, late: 50, within: within}
	ctx, stop := context.WithCancel(b.Context())
	var all sync.WaitGroup
	var written atomic.Int64
	for range writers {
		all.Go(func() {
			for ctx.Err() == nil {
				if err := w.write(context.WithoutCancel(ctx), rand.IntN(ids)); err != nil {
					b.Error(err)
					return
				}
				written.Add(1)
			}
		})
	}
	var suspects, confirmed, unsettled int64
	b.ResetTimer()
	began, before := time.Now(), written.Load()
	for range b.N {
		r, found, err := rc.Run(ctx, full)
		if err != nil {
			b.Fatal(err)
		}
		suspects, unsettled = suspects+r.Suspects, unsettled+r.Unsettled
		for _, f := range found {
			if _, behind := w.lost.Load(f.Key); !behind { // which came later than not-after: it is one
				confirmed++
				b.Errorf("confirmed: %+v", f)
			}
		}
	}
	b.StopTimer()
	b.ReportMetric(float64(written.Load()-before)/time.Since(began).Seconds(), "writes/s")
	b.ReportMetric(float64(suspects)/float64(b.N), "suspects/op")
	b.ReportMetric(float64(unsettled)/float64(b.N), "unsettled/op")
	b.ReportMetric(float64(confirmed), "confirmed")
	stop()
	all.Wait()
	w.under.Wait()
}
