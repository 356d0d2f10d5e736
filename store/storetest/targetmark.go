package storetest

import (
	"errors"
	"testing"

	"github.com/stranglerfig/migrator/store"
)

// testMark: only the mark that was claimed, at its last beat or later, is the target's.
func testMark(t *testing.T, h TargetHarness) {
	target := h.Open(t, Simple(), TargetOptions{})
	m, ok := target.(store.Marker)
	if !ok {
		t.Skip("the target has no marks")
	}
	ctx := t.Context()
	mine := store.Mark{Owner: "move@state-1", Incarnation: "first"}
	is := func(what string, err, want error) {
		t.Helper()
		if !errors.Is(err, want) || (err == nil) != (want == nil) {
			t.Fatalf("%s: %v, want %v", what, err, want)
		}
	}
	at := func(beat int64) store.Mark {
		return store.Mark{Owner: mine.Owner, Incarnation: mine.Incarnation, Beat: beat}
	}
	is("before the claim", m.CheckMark(ctx, mine), store.ErrMarkLost)
	is("beat before the claim", m.Beat(ctx, mine, 1), store.ErrMarkLost)
	is("claim", m.Claim(ctx, mine, false), nil)
	is("check", m.CheckMark(ctx, mine), nil)
	is("beat 1", m.Beat(ctx, mine, 1), nil)
	is("beat 5", m.Beat(ctx, at(1), 5), nil)
	for _, next := range []int64{2, 5} {
		var ahead *store.BeatAheadError
		if err := m.Beat(ctx, at(1), next); !errors.As(err, &ahead) || ahead.Beat != 5 {
			t.Fatalf("beat %d at 5: %v", next, err)
		}
	}
	is("at the last beat", m.CheckMark(ctx, at(5)), nil)
	is("a target that went back", m.CheckMark(ctx, at(6)), store.ErrMarkLost)
	is("beat of a target that went back", m.Beat(ctx, at(6), 7), store.ErrMarkLost)
	is("it was not set", m.CheckMark(ctx, at(6)), store.ErrMarkLost)

	other := store.Mark{Owner: "move@state-2", Incarnation: "another"}
	is("another owner", m.CheckMark(ctx, other), store.ErrOwned)
	is("another owner's beat", m.Beat(ctx, other, 9), store.ErrMarkLost)
	is("another owner's claim", m.Claim(ctx, other, false), store.ErrOwned)
	for owner, want := range map[string]int{mine.Owner: 0, other.Owner: 1} {
		if others, err := m.Owners(ctx, owner); err != nil || len(others) != want || want == 1 && others[0] != mine.Owner {
			t.Fatalf("owners besides %s: %q, %v", owner, others, err)
		}
	}
	is("after a refused claim", m.CheckMark(ctx, at(5)), nil)

	again := store.Mark{Owner: mine.Owner, Incarnation: "second"}
	is("claimed again by its owner", m.Claim(ctx, again, false), nil)
	is("the former incarnation", m.CheckMark(ctx, at(5)), store.ErrMarkLost)
	is("the new one", m.Beat(ctx, again, 1), nil)

	is("taken over", m.Claim(ctx, other, true), nil)
	is("the new owner", m.CheckMark(ctx, other), nil)
	is("the former owner", m.CheckMark(ctx, again), store.ErrMarkLost)
	is("the former owner's claim", m.Claim(ctx, again, false), store.ErrOwned)
}
