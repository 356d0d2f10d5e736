package state_test

import (
	"testing"

	"github.com/stranglerfig/migrator/store"
)

// TestOnlyTheLastBeatIsConfirmed: a number of which a later one was given out proves nothing any more.
func TestOnlyTheLastBeatIsConfirmed(t *testing.T) {
	t.Parallel()
	s, _ := open(t)
	a := applied()
	_, _, err := s.Apply(t.Context(), a)
	must(t, err)
	placed, err := s.PlaceMark(t.Context(), a.Migration, "", "incarnation", "")
	must(t, err)
	next := func(had, wantNext, wantConfirmed int64) {
		t.Helper()
		m := store.Mark{Owner: placed.Owner, Incarnation: placed.Incarnation, Beat: had}
		m, n, err := s.NextBeat(t.Context(), a.Migration, m)
		if err != nil || n != wantNext || m.Beat != wantConfirmed {
			t.Errorf("had %d: next %d, confirmed %d, %v; want %d and %d", had, n, m.Beat, err, wantNext, wantConfirmed)
		}
	}
	next(0, 1, 0)
	next(1, 2, 1)
	next(1, 3, 1) // another leader takes 3 while the first one writes 2
	next(2, 4, 1) // the first one has written it
	next(3, 5, 1)
	next(5, 6, 5)
}
