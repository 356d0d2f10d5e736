package state_test

import (
	"strings"
	"testing"

	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/store"
)

// TestPartsOfLegacy: changes add up until the next apply, and each is noted once.
func TestPartsOfLegacy(t *testing.T) {
	t.Parallel()
	s, _ := open(t)
	a := applied()
	_, _, err := s.Apply(t.Context(), a)
	must(t, err)
	status := func() phases.Status {
		st, err := s.Status(t.Context(), a.Migration)
		must(t, err)
		return st
	}
	parts := func(n int) (p []store.Part) {
		for i := range n {
			p = append(p, store.Part{ID: int64(i), Name: "part"})
		}
		return p
	}
	if p, err := s.Parts(t.Context(), a.Migration); p != nil || err != nil {
		t.Fatalf("%v, %v", p, err)
	}
	must(t, s.AcceptParts(t.Context(), a.Migration, nil))
	if p, err := s.Parts(t.Context(), a.Migration); p == nil || len(p) != 0 || err != nil {
		t.Fatalf("%v, %v: noted as none", p, err)
	}
	must(t, s.AcceptParts(t.Context(), a.Migration, parts(2)))
	for i, c := range []struct {
		before, now int
		changes     string
		lost, noted bool
		want        string
	}{
		{2, 3, "one came", false, true, "one came"},
		{2, 3, "one came", false, false, "one came"}, // another process has noted it
		{3, 1, "two went\x00", true, true, "one came; two went"},
		{1, 2, strings.Repeat("x", 480), false, true, "one came; two went ..."},
	} {
		noted, err := s.NoteParts(t.Context(), a.Migration, parts(c.before), parts(c.now), c.changes, c.lost)
		if err != nil || noted != c.noted {
			t.Fatalf("%d: %v, %v", i, noted, err)
		}
		if st := status(); st.LegacyChanged != c.want || (st.Unclean != "") != (i >= 2) {
			t.Errorf("%d: %+v", i, st)
		}
	}
	must(t, s.AcceptParts(t.Context(), a.Migration, parts(2)))
	if st := status(); st.LegacyChanged != "" || st.Unclean == "" {
		t.Errorf("%+v", st)
	}
}
