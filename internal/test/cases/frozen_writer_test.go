package cases

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/internal/test/testenv"
	"github.com/stranglerfig/migrator/phases"
)

// TestFrozenWriterOverwritesNothing: a process is suspended after legacy's commit, for
// longer than its lease and than not-after, while another instance writes the same record.
// When it resumes, its own copy must not land, and it must not answer with older data.
func TestFrozenWriterOverwritesNothing(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		phase  phases.Phase
		policy dual.Policy
	}{
		{phases.ShadowWrite, dual.RollBack},
		{phases.DualRead, dual.RollBack},
		{phases.Cutover, dual.RollBack},
		{phases.Grace, dual.RollBack},
		{phases.Grace, dual.Degrade},
		{phases.Grace, dual.Fail},
	} {
		t.Run(string(c.phase)+"/"+string(c.policy), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, options{notAfter: time.Second})
			began := time.Now()
			var suspended atomic.Int64
			frozen := w.application(setup{name: "frozen", policy: c.policy, lease: 3 * time.Second, clock: func() time.Duration {
				return time.Since(began) + time.Duration(suspended.Load())
			}})
			other := w.application(setup{name: "other"})
			w.upto(c.phase)
			frozen.after = func() {
				w.pass(time.Duration(w.m.Writing.NotAfter))
				suspended.Add(int64(10 * time.Second))
				other.mustWrite(1, "later, by the other")
			}
			err := frozen.write(1, "by the frozen one")
			testenv.Await(w.t, "the background writes", func() bool { return frozen.i.Stats().InFlight == 0 })
			want := w.inLegacy(1)
			if want != "later, by the other" {
				t.Fatalf("legacy has %q", want)
			}
			for _, a := range []*application{frozen, other} {
				if got := a.read(1); got != want {
					t.Errorf("%s reads %q, legacy has %q (the frozen write returned %v, the target has %q)", a.i.Name(), got, want, err, w.inTarget(1))
				}
			}
		})
	}
}
