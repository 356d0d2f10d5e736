//go:build unix

package torture

import (
	"strings"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/phases"
)

func TestRoutesCheckFindsViolations(t *testing.T) {
	t.Parallel()
	order := []phases.Route{ // by epoch, from 1 on
		{Phase: phases.Legacy},
		{Phase: phases.ShadowWrite},
		{Phase: phases.DualRead, Percent: phases.All},
		{Phase: phases.Cutover, Percent: phases.All},
		{Phase: phases.DualRead, Percent: phases.All},
		{Phase: phases.ShadowWrite},
		{Phase: phases.Legacy},
		{Phase: phases.ShadowWrite},
		{Phase: phases.DualRead, Percent: phases.All},
		{Phase: phases.Cutover, Percent: phases.All},
		{Phase: phases.Grace},
		{Phase: phases.Fenced},
		{Phase: phases.Retain},
	}
	for i := range order {
		order[i].Epoch = int64(i + 1)
	}
	at := func(instance string, epoch int, from, to time.Duration) *stay {
		return &stay{instance: instance, route: order[epoch-1], from: from, to: to}
	}
	lapsed := func(s *stay) *stay {
		s.lapsed = true
		return s
	}
	for _, c := range []struct {
		name    string
		stays   []*stay
		lapsed  map[int]string // by epoch: the instance that the state counted as lapsed when the epoch began
		wrong   string         // expected in the violation; "": no violation
		allowed string
	}{
		{name: "nothing"},
		{name: "neighbours", stays: []*stay{at("a", 2, 0, 9), at("b", 3, 5, 9)}},
		{name: "one after the other", stays: []*stay{at("a", 1, 0, 5), at("b", 3, 5, 9)}},
		{name: "a ramp back", stays: []*stay{at("a", 3, 0, 9), at("b", 4, 1, 9), at("a", 5, 2, 9)}},
		{name: "an advance that did not wait", stays: []*stay{at("a", 2, 0, 9), at("b", 4, 5, 9)}, wrong: "advanced to cutover 100 %@4"},
		{name: "the same, ended in time for it", stays: []*stay{at("a", 2, 0, 4), at("b", 4, 5, 9)}},
		{name: "a rollback that did not wait", stays: []*stay{at("a", 4, 0, 9), at("b", 6, 5, 9)}, wrong: "while the state counted the lease of a as live"},
		{
			name: "a rollback past a lapsed lease", stays: []*stay{at("a", 4, 0, 9), at("b", 6, 5, 9)},
			lapsed: map[int]string{6: "a"}, allowed: overtaken,
		},
		{
			name: "another instance's lapsed lease does not allow it", stays: []*stay{at("a", 4, 0, 9), at("b", 6, 5, 9)},
			lapsed: map[int]string{6: "b"}, wrong: "while the state counted the lease of a as live",
		},
		{
			name: "nor does a lapsed lease before an advance", stays: []*stay{at("a", 2, 0, 9), at("b", 4, 5, 9)},
			lapsed: map[int]string{4: "a"}, wrong: "advanced to cutover 100 %@4",
		},
		{name: "without a lease it is dual-read", stays: []*stay{lapsed(at("a", 4, 0, 9)), at("b", 6, 5, 9)}},
		{
			name: "which is not for legacy", stays: []*stay{lapsed(at("a", 4, 0, 9)), at("b", 7, 5, 9)},
			wrong: "rolled back to legacy@7",
		},
		{
			name: "unless a rollback passed it", stays: []*stay{lapsed(at("a", 4, 0, 9)), at("b", 7, 5, 9)},
			lapsed: map[int]string{7: "a"}, allowed: overtaken,
		},
		{name: "without a lease beside the fence", stays: []*stay{lapsed(at("a", 11, 0, 9)), at("b", 12, 5, 9)}, allowed: between},
		{name: "but not beside retain", stays: []*stay{lapsed(at("a", 11, 0, 9)), at("b", 13, 5, 9)}, wrong: "advanced to retain@13"},
		{name: "three classes", stays: []*stay{at("a", 1, 0, 9), at("b", 2, 1, 9), at("c", 3, 2, 9)}, wrong: "of 3 classes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			moves := map[int64]move{}
			for i := 1; i < len(order); i++ {
				moves[order[i].Epoch] = move{from: order[i-1], to: order[i], lapsed: []string{c.lapsed[i+1]}}
			}
			found := together(c.stays, moves)
			text := strings.Join(found.Violations, "\n")
			if (text != "") != (c.wrong != "") || !strings.Contains(text, c.wrong) {
				t.Errorf("found %q, want %q", text, c.wrong)
			}
			if found.Allowed[c.allowed] != count(c.allowed != "") || len(found.Allowed) != count(c.allowed != "") {
				t.Errorf("allowed %v, want %q", found.Allowed, c.allowed)
			}
		})
	}
}
