package model

import (
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"strconv"
	"strings"
)

// Trace is the path to a violation, step by step.
type Trace struct {
	Violation
	Steps []string
}

func (t *Trace) String() string {
	var b strings.Builder
	for i, s := range t.Steps {
		fmt.Fprintf(&b, "%3d. %s\n", i+1, s)
	}
	fmt.Fprintf(&b, "promise %d: %s", t.Promise, t.What)
	return b.String()
}

func (s Step) String() string {
	return strings.Replace(s.What, "%d", strconv.Itoa(s.Who), 1)
}

// Explore visits every reachable state, up to limit (0: none), in breadth-first order: its
// trace is a shortest one. complete reports whether it visited all.
func Explore(c Config, r Rules, limit int) (states int, t *Trace, complete bool) {
	return newGen(c, r).explore(limit)
}

func (g *gen) explore(limit int) (states int, t *Trace, complete bool) {
	list := []State{g.c.first()}
	from := []int32{-1}
	seed := maphash.MakeSeed()
	at := map[uint64]int32{maphash.Comparable(seed, list[0]): 0} // by hash; of two with one hash, the second is at the next
	known := func(s *State) bool {
		h := maphash.Comparable(seed, *s)
		for {
			i, taken := at[h]
			if !taken {
				at[h] = int32(len(list))
				return false
			}
			if list[i] == *s {
				return true
			}
			h++
		}
	}
	for i := 0; i < len(list); i++ {
		s := list[i]
		for j := range g.next(&s) {
			step := &g.out[j]
			if g.seen != nil {
				g.seen[step.What] = true
			}
			if known(&step.To) {
				continue
			}
			list = append(list, step.To)
			from = append(from, int32(i))
			if v := g.check(&step.To); v != nil {
				return len(list), g.trace(list, from, *v), false
			}
		}
		if limit > 0 && len(list) > limit {
			return len(list), nil, false
		}
	}
	return len(list), nil, true
}

func (g *gen) trace(list []State, from []int32, v Violation) *Trace {
	t := &Trace{Violation: v}
	for i := int32(len(list) - 1); from[i] >= 0; i = from[i] {
		for _, step := range g.next(&list[from[i]]) {
			if step.To == list[i] {
				t.Steps = append([]string{step.String()}, t.Steps...)
				break
			}
		}
	}
	return t
}

// Walks takes random walks of that many steps each until it has taken the given number of
// them, or a promise is broken.
func Walks(c Config, r Rules, rng *rand.Rand, walks, steps int) (taken int, t *Trace) {
	g := newGen(c, r)
	for range walks {
		n, t := g.walk(rng, steps)
		if taken += n; t != nil {
			return taken, t
		}
	}
	return taken, nil
}

func (g *gen) walk(rng *rand.Rand, steps int) (taken int, t *Trace) {
	s := g.c.first()
	var path []string
	for range steps {
		next := g.next(&s)
		if len(next) == 0 {
			break
		}
		step := next[rng.IntN(len(next))]
		path = append(path, step.String())
		s = step.To
		if v := g.check(&s); v != nil {
			return len(path), &Trace{*v, path}
		}
	}
	return len(path), nil
}
