package dual

import (
	"context"
	"crypto/rand"
	"slices"
	"sync"
	"time"

	"github.com/stranglerfig/migrator/dual/telemetry"
	"github.com/stranglerfig/migrator/internal/stats/sketch"
	"github.com/stranglerfig/migrator/phases"
)

const (
	windowLength = 10 * time.Second
	windowsKept  = 60 // while the state is unreachable; a window with latencies takes some 50 KiB
	windowsSent  = 20 // in one request

	// An instance that leaves waits this long: telemetry is not worth more.
	reportTimeout = 2 * time.Second
)

// windows is the telemetry that has not been reported to the state yet.
type windows struct {
	mu          sync.Mutex // also locked while windows are being sent
	to          Observer
	incarnation string
	sequence    int64
	began       time.Duration // by the instance's clock
	waiting     []window

	summed sync.Mutex // separate: a reader of the sum must not wait for the state
	sum    telemetry.Bucket
}

type window struct {
	telemetry.Window
	ended time.Duration
}

func (w *windows) init(f Fleet, now time.Duration) {
	w.to, _ = f.(Observer)
	w.incarnation, w.began = rand.Text(), now
}

// Observed returns all that the instance has counted and timed since it joined, up to
// the last window that ended (Config.ReportEvery), no series twice. Counts and sketches
// only grow; the returned ones belong to the caller. It needs Run, and no Observer.
func (i *Instance) Observed() []telemetry.Count {
	w := &i.windows
	var all telemetry.Bucket
	w.summed.Lock()
	defer w.summed.Unlock()
	all.Add(w.sum.Counts)
	return all.Counts
}

// observe closes windows and reports them, until ctx ends.
func (i *Instance) observe(ctx context.Context) {
	ticker := time.NewTicker(i.set.ReportEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			i.report(ctx)
		}
	}
}

// report closes the present windows and sends all that wait.
func (i *Instance) report(ctx context.Context) {
	w := &i.windows
	w.mu.Lock()
	defer w.mu.Unlock()
	i.closeWindow()
	ctx, cancel := context.WithTimeout(ctx, reportTimeout)
	defer cancel()
	for len(w.waiting) > 0 {
		batch := make([]telemetry.Window, 0, windowsSent)
		now := i.clock()
		for _, next := range w.waiting[:min(len(w.waiting), windowsSent)] {
			next.Age = now - next.ended
			batch = append(batch, next.Window)
		}
		// Kept and sent again after a failure, also if only the response did not arrive: incarnation
		// and sequence make a window count once.
		if err := w.to.Observe(ctx, i.pinned.Load().lease.id, batch); err != nil {
			i.count.observeFailures.Add(1)
			i.log.Debug("telemetry report failed", "windows", len(w.waiting), "error", err)
			return
		}
		w.waiting = slices.Delete(w.waiting, 0, len(batch))
	}
}

// closeWindow closes the present windows; the caller has locked mu.
func (i *Instance) closeWindow() {
	w := &i.windows
	now := i.clock()
	length := now - w.began
	w.began = now
	var reads, writes uint64
	for _, h := range i.observable() {
		begunReads, begunWrites := h.begun()
		reads += begunReads - h.windowReads
		writes += begunWrites - h.windowWrites
		h.windowReads, h.windowWrites = begunReads, begunWrites
		counts := h.counts()
		// The first window is sent although it may be empty: an instance that never reports is not
		// taken for an idle one.
		if len(counts) == 0 && (w.to == nil || w.sequence > 0) {
			continue
		}
		w.summed.Lock()
		w.sum.Add(counts)
		w.summed.Unlock()
		if w.to == nil {
			continue
		}
		w.sequence++
		w.keep(window{ended: now, Window: telemetry.Window{
			Incarnation: w.incarnation, Instance: i.Name(), Sequence: w.sequence,
			Epoch: h.route.Epoch, ConfigHash: h.configHash, Length: length, Counts: counts,
		}}, i)
	}
	i.reads.adapt(reads)
	i.writes.adapt(writes)
}

func (h *pinnedRoute) begun() (reads, writes uint64) {
	for n := range h.shards {
		reads += h.shards[n].reads.Load()
		writes += h.shards[n].writes.Load()
	}
	return reads, writes
}

// keep adds a window. It replaces the oldest one if too many wait.
func (w *windows) keep(next window, i *Instance) {
	w.waiting = append(w.waiting, next)
	if len(w.waiting) <= windowsKept {
		return
	}
	// A window that does not fit is counted as discarded: a gate must not take a gap for a quiet time.
	w.waiting[1].Discarded += w.waiting[0].Discarded + 1
	w.waiting = slices.Delete(w.waiting, 0, 1)
	i.count.discarded.Add(1)
}

// observable returns the routes whose operations may have counted something since the
// last window. A drained route is returned once more, for counts that are added just after
// a pin is released.
func (i *Instance) observable() []*pinnedRoute {
	i.reached()
	i.mu.Lock()
	defer i.mu.Unlock()
	all := slices.Concat(i.over, i.retired, []*pinnedRoute{i.pinned.Load()})
	i.over = slices.DeleteFunc(i.over, func(h *pinnedRoute) bool {
		seen := h.seen
		h.seen = true
		return seen
	})
	return all
}

// counts returns the route's counts since the last window.
func (h *pinnedRoute) counts() (counts []telemetry.Count) {
	var total [seriesCount]uint64
	for n := range total {
		total[n] = h.observed.counts[n].Load()
	}
	usual, write := readTarget, []kind{writeLegacy, changedRow, writeAdded}
	if h.reads != phases.ReadsTarget {
		usual = readLegacy
	}
	switch h.writes {
	case phases.WritesLegacy:
		write = write[:2]
	case phases.WritesBoth:
		write = append(write, writeTarget)
	case phases.WritesTarget:
		write = []kind{writeTarget}
	}
	for n := range h.shards {
		s := &h.shards[n]
		total[index(usual, wasOK)] += s.over[slotReadOK].Load()
		total[index(readTarget, wasOK)] += s.over[slotTargetOK].Load()
		wrote := s.over[slotWriteOK].Load()
		for _, k := range write {
			total[index(k, wasOK)] += wrote
		}
	}
	for n, now := range total {
		c := telemetry.Count{Series: seriesAt(n), N: now - h.reported[n]}
		if n < comparisons {
			if r := h.observed.latencies[n].Load(); r != nil {
				sketch := new(sketch.Sketch)
				if r.Drain(sketch); sketch.Count() > 0 {
					c.Latency = sketch
				}
			}
		}
		if c.N > 0 || c.Latency != nil {
			counts = append(counts, c)
		}
		h.reported[n] = now
	}
	return counts
}
