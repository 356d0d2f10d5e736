package api_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/dual/httpfleet"
	"github.com/stranglerfig/migrator/phases"
)

const (
	benchLeases  = 2000
	benchStreams = 500
	benchFor     = 20 * time.Second
)

// BenchmarkLeases is a fleet of 2,000 instances on one daemon, each with a connection of its own, that renew each 5 s, and
// 500 of which follow events. The clients are in the same process: its memory is of both.
func BenchmarkLeases(b *testing.B) {
	s, _ := open(b)
	_, token := s.Application(products)
	type member struct {
		*httpfleet.Fleet
		grant dual.Grant
	}
	members := make([]*member, benchLeases)
	g, ctx := errgroup.WithContext(b.Context())
	g.SetLimit(16)
	for i := range members {
		g.Go(func() error {
			f, err := httpfleet.New(products, httpfleet.Options{URLs: []string{s.URL}, Token: token, Lease: phases.LongestLease})
			if err != nil {
				return err
			}
			members[i] = &member{Fleet: f}
			members[i].grant, err = f.Join(ctx, dual.Identity{Instance: fmt.Sprintf("web-%d", i)})
			return err
		})
	}
	must(b, g.Wait())
	for b.Loop() {
		ctx, stop := context.WithTimeout(b.Context(), benchFor)
		var all sync.WaitGroup
		var heard sync.WaitGroup
		heard.Add(benchStreams)
		for _, m := range members[:benchStreams] {
			all.Go(func() {
				once := sync.OnceFunc(heard.Done)
				_ = m.Notifications(ctx, func(int64) { once() })
			})
		}
		heard.Wait()
		var mu sync.Mutex
		var took []time.Duration
		failed := 0
		for _, m := range members {
			all.Go(func() {
				next := time.NewTimer(rand.N(phases.LeaseRenew))
				defer next.Stop()
				for {
					select {
					case <-ctx.Done():
						return
					case <-next.C:
					}
					began := time.Now()
					_, err := m.Renew(b.Context(), m.grant.Lease, m.grant.Route.Epoch)
					next.Reset(phases.LeaseRenew - time.Since(began))
					mu.Lock()
					if took = append(took, time.Since(began)); err != nil {
						failed++
					}
					mu.Unlock()
				}
			})
		}
		all.Wait()
		stop()
		slices.Sort(took)
		var memory runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&memory)
		b.ReportMetric(float64(len(took))/benchFor.Seconds(), "renewals/s")
		b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
		b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
		b.ReportMetric(float64(failed), "failed")
		b.ReportMetric(float64(memory.HeapInuse+memory.StackInuse)/(1<<20), "MiB")
	}
}
