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
	windowsKept  = 60 // while the state is away; a window with latencies takes some 50 KiB
	windowsSent  = 20 // at a time

	// An instance that leaves waits for it: counts are not worth more.
	handInTimeout = 2 * time.Second
)

// windows are what the state has not been told yet.
type windows struct {
	mu          sync.Mutex // also held while they are being sent
	to          Observer
	incarnation string
	sequence    int64
	began       time.Duration // by the instance's clock
	waiting     []window

	summed sync.Mutex // of its own: who reads the sum must not wait for the state
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

// Observed is all that the instance has counted and timed since it joined, up to the
// last window that ended (Config.HandIn), no series twice. Counts and sketches only
// grow; they are the caller's own. It needs Run, and no Observer.
func (i *Instance) Observed() []telemetry.Count {
	w := &i.windows
	var all telemetry.Bucket
	w.summed.Lock()
	defer w.summed.Unlock()
	all.Add(w.sum.Counts)
	return all.Counts
}

// observe ends windows of counts, and hands them in, until ctx ends.
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

// report ends the present windows and sends all that wait.
func (i *Instance) report(ctx context.Context) {
	w := &i.windows
	w.mu.Lock()
	defer w.mu.Unlock()
	i.closeWindow()
	ctx, cancel := context.WithTimeout(ctx, handInTimeout)
	defer cancel()
	for len(w.waiting) > 0 {
		batch := make([]telemetry.Window, 0, windowsSent)
		now := i.clock()
		for _, next := range w.waiting[:min(len(w.waiting), windowsSent)] {
			next.Age = now - next.ended
			batch = append(batch, next.Window)
		}
		// Kept and sent again after a failure, also if only the response was lost: incarnation and
		// sequence make a window count once.
		if err := w.to.Observe(ctx, i.pinned.Load().lease.id, batch); err != nil {
			i.count.observeFailures.Add(1)
			i.log.Debug("counts could not be handed in yet", "windows", len(w.waiting), "error", err)
			return
		}
		w.waiting = slices.Delete(w.waiting, 0, len(batch))
	}
}

// closeWindow ends the present windows, with the lock held.
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
		if len(counts) == 0 {
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

// keep adds a window, in the place of the oldest one if too many wait.
func (w *windows) keep(next window, i *Instance) {
	w.waiting = append(w.waiting, next)
	if len(w.waiting) <= windowsKept {
		return
	}
	// What does not fit is counted as discarded: a gate must not take a gap for a quiet time.
	w.waiting[1].Discarded += w.waiting[0].Discarded + 1
	w.waiting = slices.Delete(w.waiting, 0, 1)
	i.count.discarded.Add(1)
}

// observable are the routes whose operations may have counted something since the
// last window. One that is over is looked at once more, for what is counted just
// after a pin is released.
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

// counts are the route's since the last window.
func (h *pinnedRoute) counts() (counts []telemetry.Count) {
	var total [seriesCount]uint64
	for n := range total {
		total[n] = h.saw.counts[n].Load()
	}
	usual, write := readTarget, []kind{writeLegacy, writeAdded}
	if h.reads != phases.ReadsTarget {
		usual = readLegacy
	}
	switch h.writes {
	case phases.WritesLegacy:
		write = write[:1]
	case phases.WritesBoth:
		write = append(write, writeTarget)
	case phases.WritesTarget:
		write = []kind{writeTarget}
	}
	for n := range h.shards {
		s := &h.shards[n]
		total[index(usual, wasOK)] += s.over[readsOK].Load()
		total[index(readTarget, wasOK)] += s.over[otherOK].Load()
		wrote := s.over[writesOK].Load()
		for _, k := range write {
			total[index(k, wasOK)] += wrote
		}
	}
	for n, now := range total {
		c := telemetry.Count{Series: seriesAt(n), N: now - h.logged[n]}
		if n < comparisons {
			if r := h.saw.latencies[n].Load(); r != nil {
				sketch := new(sketch.Sketch)
				if r.Drain(sketch); sketch.Count() > 0 {
					c.Latency = sketch
				}
			}
		}
		if c.N > 0 || c.Latency != nil {
			counts = append(counts, c)
		}
		h.logged[n] = now
	}
	return counts
}
