package app

import (
	"testing"
	"time"

	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/reconcile"
)

// TestARunSaysFromWhenItCounts: a full run that began while writes of an unclean instance could land, and no
// other.
func TestARunSaysFromWhenItCounts(t *testing.T) {
	t.Parallel()
	dirty := time.Unix(1000, 0)
	for _, c := range []struct {
		run   reconcile.Run
		dirty time.Time
		want  time.Time
	}{
		{reconcile.Run{Full: true, Began: dirty.Add(-time.Second)}, dirty, dirty},
		{reconcile.Run{Full: true, Began: dirty}, dirty, dirty},
		{reconcile.Run{Full: true, Began: dirty.Add(time.Second)}, dirty, time.Time{}},
		{reconcile.Run{Began: dirty.Add(-time.Second)}, dirty, time.Time{}},
		{reconcile.Run{Full: true, Began: dirty}, time.Time{}, time.Time{}},
	} {
		if got := CountsFrom(c.run, phases.Status{Dirty: c.dirty}); !got.Equal(c.want) {
			t.Errorf("%+v, %s: %s, want %s", c.run, c.dirty, got, c.want)
		}
	}
}
