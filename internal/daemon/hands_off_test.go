package daemon_test

import (
	"testing"
	"time"

	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/store"
)

// TestNothingIsWrittenToALostTarget: what has no mark may be another server.
func TestNothingIsWrittenToALostTarget(t *testing.T) {
	t.Parallel()
	runMaintainer(t, phases.DualRead, func(w *fakeStores) {
		w.set(func() { w.status.JournalKeys, w.beatErr = 3, store.ErrMarkLost })
		advanceClock(2 * time.Hour)
		w.set(func() {
			if len(w.repairs) > 0 || len(w.purged) > 0 || w.beats == 0 {
				t.Errorf("%d looks, repaired at %v, purged at %v", w.beats, w.repairs, w.purged)
			}
			w.beatErr = nil
		})
		advanceClock(2 * time.Hour)
		w.set(func() {
			if len(w.repairs) == 0 || len(w.purged) == 0 {
				t.Errorf("the target is back, repaired at %v, purged at %v", w.repairs, w.purged)
			}
		})
	})
}

// TestStateLossStopsMaintenance: a fence that looks interrupted may have been passed, and the target
// may have writes that legacy lacks.
func TestStateLossStopsMaintenance(t *testing.T) {
	t.Parallel()
	for _, phase := range []phases.Phase{phases.DualRead, phases.Fenced, phases.Retain} {
		runMaintainer(t, phase, func(w *fakeStores) {
			w.set(func() {
				w.status.JournalKeys = 3
				w.status.StateLoss = &phases.StateLoss{Instance: "shop", Route: phases.Route{Phase: phases.Retain, Epoch: 9}}
			})
			advanceClock(2 * time.Hour)
			w.set(func() {
				if len(w.repairs)+len(w.purged)+len(w.resumed)+len(w.watched)+w.beats > 0 {
					t.Errorf("on %s it repaired at %v, purged at %v, resumed at %v, watched at %v, and made %d beats",
						phase, w.repairs, w.purged, w.resumed, w.watched, w.beats)
				}
			})
		})
	}
}
