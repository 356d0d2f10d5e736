package phases

import (
	"slices"
	"testing"
)

// TestReclaimedRoute: by what the state records, and by whether legacy refuses writes now.
func TestReclaimedRoute(t *testing.T) {
	t.Parallel()
	for _, p := range append(slices.Clone(Order), Fenced, Lifting, Returning) {
		for _, fenced := range []bool{false, true} {
			want := Route{Phase: p}
			switch {
			case p == Complete, p == Retain && !fenced:
				want = Route{}
			case fenced:
				want = Route{Phase: Returning}
			case p.Passing():
				want = Route{Phase: Lifting}
			case p == DualRead, p == Cutover, p == Grace:
				want = Route{Phase: DualRead, Percent: All}
			}
			got, err := Reclaimed(Route{Phase: p, Epoch: 5}, fenced)
			if (err != nil) != (want == Route{}) || err == nil && got != want {
				t.Errorf("%s, fenced %t: %s, %v; want %s", p, fenced, got, err, want)
			}
		}
	}
}
