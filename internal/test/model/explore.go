package model

import (
	"math/rand/v2"

	"github.com/stranglerfig/migrator/internal/test/model/search"
)

// Explore visits every reachable state, up to limit (0: none).
func Explore(c Config, r Rules, limit int) search.Result {
	m := newGen(c, r).machine()
	return m.Explore(limit)
}

// Walks takes random walks of that many steps each until it has taken the given number of
// them, or a promise is broken.
func Walks(c Config, r Rules, rng *rand.Rand, walks, steps int) (taken int, t *search.Trace) {
	m := newGen(c, r).machine()
	for range walks {
		n, t := m.Walk(rng, steps)
		if taken += n; t != nil {
			return taken, t
		}
	}
	return taken, nil
}

func (g *gen) machine() search.Machine[State] {
	return search.Machine[State]{First: g.c.first(), Next: g.next, Check: func(s *State) error {
		if v := g.check(s); v != nil {
			return v
		}
		return nil
	}}
}
