//go:build unix

package torture

import (
	"context"
	"time"
)

// stateSample is the state at one moment between began and ended.
type stateSample struct {
	began, ended time.Duration
	read         bool            // an instance may read the target
	behind       map[string]bool // the journal's keys
}

// sampleState samples the state repeatedly, without the wires.
func (w *world) sampleState(ctx context.Context) error {
	for pause(ctx, 25*time.Millisecond) {
		if g, err := w.takeSample(ctx); err == nil { // otherwise it is down, or frozen
			w.samples = append(w.samples, g)
		}
	}
	return nil
}

func (w *world) takeSample(ctx context.Context) (g stateSample, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	g = stateSample{began: w.events.now(), behind: map[string]bool{}}
	var keys []string
	if err = w.pool.QueryRow(ctx, `SELECT coalesce(array_agg(convert_from(key, 'UTF8')), '{}') FROM migrator.journal`).Scan(&keys); err != nil {
		return g, err
	}
	for _, k := range keys {
		g.behind[k] = true
	}
	g.read, err = w.readers.TargetRead(ctx)
	g.ended = w.events.now()
	return g, err
}

// closeExceptions sets the end of the window of every write that its instance acknowledged as
// an exception: the first sample after the acknowledgement in which that key is repaired, or
// no instance is on a route that reads the target. proved is when the whole run was repaired.
func (w *world) closeExceptions(proved time.Duration) (n map[exception]int) {
	n = map[exception]int{}
	for _, ops := range w.history.byKey() {
		for _, o := range ops {
			if o.Exception == "" {
				continue
			}
			n[o.Exception]++
			o.Until = proved
			key := string(cellKey(int64(o.Key)))
			for _, g := range w.samples {
				if g.began >= o.Return && (!g.read || !g.behind[key]) {
					o.Until = g.ended
					break
				}
			}
		}
	}
	return n
}
