package control_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/dual/pgfleet"
	"github.com/stranglerfig/migrator/internal/control"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// BenchmarkReturn rolls back from retain, in which MIGRATOR_RETURN_KEYS keys (20,000) were written,
// beside 10 writes a second of an instance. held-p99-ms and held-max-ms are of the writes that ended
// from the commit of returning to the end.
func BenchmarkReturn(b *testing.B) {
	keys := 20_000
	if text := os.Getenv("MIGRATOR_RETURN_KEYS"); text != "" {
		var err error
		if keys, err = strconv.Atoi(text); err != nil {
			b.Fatal(err)
		}
	}
	for range b.N {
		benchmarkReturn(b, keys)
	}
}

func benchmarkReturn(b *testing.B, keys int) {
	b.StopTimer()
	m := newBench(b)
	m.walk(phases.DualRead)
	m.interlocked()
	m.walk(phases.Grace)
	_, err := m.controller().Advance(m.ctx, fenceGates())
	m.check(err)
	m.fill(keys)
	load := m.beginLoad(keys)
	var rehearsed, copied, stopped time.Time
	ctl := m.controller()
	ctl.NotAfter = 10 * time.Second // as by default
	ctl.FenceBudget = 0
	ctl.State = interferedState{State: m.state, to: phases.Returning, moved: func() { stopped = time.Now() }}
	once := sync.Once{}
	ctl.Legacy = interferedFence{Legacy: m.legacy, begun: func() { once.Do(func() { rehearsed = time.Now() }) }}
	b.StartTimer()
	began := time.Now()
	if _, err := ctl.Rollback(m.ctx, control.Rollback{Reason: "benchmark"}); err != nil {
		b.Fatal(err)
	}
	ended := time.Now()
	b.StopTimer()
	copied = stopped
	held, failed := load.end(stopped)
	slices.Sort(held)
	b.ReportMetric(rehearsed.Sub(began).Seconds(), "rehearsal-s")
	b.ReportMetric(copied.Sub(rehearsed).Seconds(), "rounds-s")
	b.ReportMetric(ended.Sub(stopped).Seconds(), "returning-s")
	b.ReportMetric(float64(failed), "failed-writes")
	if len(held) > 0 {
		b.ReportMetric(float64(held[len(held)*99/100].Milliseconds()), "held-p99-ms")
		b.ReportMetric(float64(held[len(held)-1].Milliseconds()), "held-max-ms")
	}
	b.ReportMetric(float64(len(held)), "held-writes")
	attempt, _, err := m.legacy.FenceState(m.ctx)
	m.check(err)
	if st := m.snapshot().Status; attempt != "" || st.ReturnKeys+st.ReturnRest != 0 {
		b.Errorf("after it: the fence of attempt %q, %+v", attempt, st)
	}
}

// fill writes records in retain.
func (b *bench) fill(records int) {
	b.t.Helper()
	st := b.snapshot().Status
	fleet := pgfleet.New(b.state.Pool(), "items", pgfleet.Options{})
	keys, writes := make([]record.Key, 0, 500), make([]store.Write, 0, 500)
	for i := range records {
		id := strconv.Itoa(1000 + i)
		keys = append(keys, record.Key(id))
		writes = append(writes, store.Write{
			Key: record.Key(id), Record: record.Record{record.TextValue(id), record.TextValue("written in retain")},
			Version: record.MakeVersion(st.FenceEra, 0, 1), Keep: true,
		})
		if len(keys) < cap(keys) && i < records-1 {
			continue
		}
		b.check(fleet.Return(b.ctx, st.Route.Epoch, keys))
		_, err := b.target.Apply(b.ctx, writes)
		for tries := 0; err != nil && tries < 5; tries++ { // the machine may be busy
			_, err = b.target.Apply(b.ctx, writes)
		}
		b.check(err)
		keys, writes = keys[:0], writes[:0]
	}
}

type loadedItem struct {
	ID   int64   `db:"id"`
	Name *string `db:"name"`
}

// load writes records at 10 writes a second, each in a goroutine of its own.
type load struct {
	stop   context.CancelFunc
	group  sync.WaitGroup
	mu     sync.Mutex
	ends   []time.Time
	took   []time.Duration
	failed int
}

func (b *bench) beginLoad(keys int) *load {
	b.t.Helper()
	fleet, err := pgfleet.Open(b.ctx, b.stateURL, "items", pgfleet.Options{})
	b.check(err)
	b.t.Cleanup(fleet.Close)
	instance, err := dual.Join(b.ctx, dual.Config{Fleet: fleet})
	b.check(err)
	codec, err := dual.NewCodec[int64, loadedItem](b.legacy.Schema(), nil, nil)
	b.check(err)
	writer, err := dual.NewWriter(dual.WriterConfig[int64, loadedItem]{
		Instance: instance, Target: dual.Bind(b.target, codec), Key: codec.Key,
		Legacy: func(context.Context, int64) (loadedItem, bool, error) { return loadedItem{}, false, nil },
	})
	b.check(err)
	ctx, cancel := context.WithCancel(b.ctx)
	l := &load{stop: cancel}
	l.group.Go(func() { _ = instance.Run(ctx) })
	write := func(id int64, name string) error {
		key := codec.Key(id)
		return writer.Write(b.ctx, dual.Op[int64, loadedItem]{
			Keys: []int64{id},
			Legacy: func(ctx context.Context) ([]dual.Change[int64, loadedItem], error) {
				row, err := b.legacy.(store.Toucher).Touch(ctx, key, "name", record.TextValue(name))
				if err != nil {
					return nil, err
				}
				return []dual.Change[int64, loadedItem]{{Key: id, Value: loadedItem{id, &name}, Version: row.Version}}, nil
			},
			Update: func(id int64, _ loadedItem, _ bool) (loadedItem, bool, error) {
				return loadedItem{id, &name}, false, nil
			},
		})
	}
	l.group.Go(func() {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for n := 0; ; n++ {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			l.group.Go(func() {
				began := time.Now()
				err := write(int64(1000+rand.IntN(keys)), fmt.Sprint("write ", n))
				l.mu.Lock()
				defer l.mu.Unlock()
				l.ends, l.took = append(l.ends, time.Now()), append(l.took, time.Since(began))
				if err != nil && !errors.Is(err, context.Canceled) {
					l.failed++
				}
			})
		}
	})
	return l
}

// end stops the load, and returns how long the writes took that ended after a moment.
func (l *load) end(after time.Time) (took []time.Duration, failed int) {
	l.stop()
	l.group.Wait()
	for i, at := range l.ends {
		if at.After(after) {
			took = append(took, l.took[i])
		}
	}
	return took, l.failed
}
