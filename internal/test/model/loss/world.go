// Package loss has small worlds in which a store forgets: legacy goes back in its position,
// its data or its fence; the target is empty, lacks a part, or is older than it was; the
// state goes back at the same epoch. Each world covers the rules that one such loss needs.
// With all of its rules a world keeps what it promises in every state; with any one of them
// off, a search finds a shortest way to break it. See docs/model.md.
package loss

import (
	"errors"
	"fmt"

	"github.com/stranglerfig/migrator/internal/test/model/search"
)

// Rules is a set of a world's rules: those in force.
type Rules uint32

// all is the protocol.
const all = ^Rules(0)

func (r Rules) has(rule Rules) bool { return r&rule != 0 }

// Rule is one rule of a world, and what its mutation does.
type Rule struct {
	Bit    Rules
	Name   string // as docs/model.md has it
	Breaks string // what is wrong in the last state of the trace without the rule
	Steps  int    // of that trace
	In     int    // the search that finds it
	Cites  string // the rule of docs/protocol.md, if it has a name there
}

// Search visits a world within some bounds.
type Search struct {
	Bounds string // who acts, and how often
	States int    // all that are reachable
	Long   bool   // only for the long run

	explore func(Rules) search.Result
}

// Explore visits all states under the given rules.
func (s *Search) Explore(r Rules) search.Result { return s.explore(r) }

// World is a machine with its rules.
type World struct {
	Name     string
	About    string
	Searches []Search
	Rules    []Rule
}

// Worlds returns all of them.
func Worlds() []*World {
	return []*World{&beatWorld, &acceptWorld, &stateBack, &returnWorld, &missWorld, &fenceWorld, &eraWorld, &olderWorld, &captureWorld}
}

// machine is a world of states S.
func machine[S comparable](first S, next func(s *S, out *search.Steps[S]), wrong func(*S) string) search.Result {
	m := search.Machine[S]{First: first, Next: next, Check: func(s *S) error {
		if what := wrong(s); what != "" {
			return errors.New(what)
		}
		return nil
	}}
	return m.Explore(maxStates)
}

// maxStates keeps a search from the end of memory.
const maxStates = 40_000_000

// version orders the states of the one key. The timeline is left out where no world needs it.
type version struct{ era, n uint8 }

func (v version) newer(w version) bool { return v.era > w.era || v.era == w.era && v.n > w.n }

func (v version) String() string { return fmt.Sprintf("(%d, %d)", v.era, v.n) }
