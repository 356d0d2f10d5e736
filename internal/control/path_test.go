package control_test

import (
	"fmt"
	"testing"

	"github.com/stranglerfig/migrator/internal/control"
	"github.com/stranglerfig/migrator/phases"
)

// TestRollbackGoesToTheShareThatIsNamed: no lower one, no higher one, and all of dual-read's reads where none is named.
func TestRollbackGoesToTheShareThatIsNamed(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		from phases.Route
		to   control.Rollback
		want string // "refused": an error
	}{
		{phases.Route{Phase: phases.Grace}, control.Rollback{}, "[dual-read 100 %]"},
		{phases.Route{Phase: phases.Grace}, control.Rollback{To: phases.DualRead, Percent: 500}, "[dual-read 5 %]"},
		{phases.Route{Phase: phases.Grace}, control.Rollback{To: phases.Cutover, Percent: 500}, "[cutover 5 %]"},
		{phases.Route{Phase: phases.Cutover, Percent: 5000}, control.Rollback{To: phases.Cutover, Percent: 500}, "[cutover 5 %]"},
		{phases.Route{Phase: phases.Cutover, Percent: 5000}, control.Rollback{To: phases.Cutover, Percent: 5000}, "[]"},
		{phases.Route{Phase: phases.Cutover, Percent: 5000}, control.Rollback{To: phases.Cutover}, "[]"},
		{phases.Route{Phase: phases.Cutover, Percent: 500}, control.Rollback{To: phases.Cutover, Percent: 5000}, "refused"},
		{phases.Route{Phase: phases.DualRead, Percent: 500}, control.Rollback{To: phases.Cutover, Percent: 500}, "refused"},
		{phases.Route{Phase: phases.Cutover, Percent: 500}, control.Rollback{}, "[dual-read 100 %]"},
		{phases.Route{Phase: phases.DualRead, Percent: 500}, control.Rollback{To: phases.ShadowWrite, Percent: 500}, "[shadow-write]"},
		{phases.Route{Phase: phases.Complete}, control.Rollback{}, "refused"},
	} {
		path, err := control.RollbackPath(c.from, c.to)
		got := fmt.Sprint(path)
		if err != nil {
			got = "refused"
		}
		if got != c.want {
			t.Errorf("from %s to %s %s: %s, %v, want %s", c.from, c.to.To, c.to.Percent, got, err, c.want)
		}
	}
}
