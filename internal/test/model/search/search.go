// Package search visits the states of a small machine: all of them, breadth first, or some
// by random walks. A machine is a first state, a function that lists the steps out of a
// state, and a check of each state.
package search

import (
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"strings"
)

// Machine is what a search visits. S holds the whole state by value.
type Machine[S comparable] struct {
	First S
	Next  func(from *S, steps *Steps[S]) // adds each step that may be taken
	Check func(*S) error                 // what is wrong with the state, or nil
	Taken map[string]bool                // if not nil: records the name of each step that is taken
}

// Step is one thing that may happen next.
type Step[S comparable] struct {
	What string // a format for Args
	To   S
	args [4]int16
	n    uint8
}

func (s *Step[S]) String() string {
	args := make([]any, min(int(s.n), strings.Count(s.What, "%d")))
	for i := range args {
		args[i] = s.args[i]
	}
	return fmt.Sprintf(s.What, args...)
}

// Steps lists the steps out of one state.
type Steps[S comparable] struct {
	List []Step[S]
}

// Add adds a step. The format takes up to four numbers, each as %d, and need not use them; the
// text is made only for a trace.
func (s *Steps[S]) Add(to S, format string, args ...int) {
	step := Step[S]{What: format, To: to, n: uint8(len(args))}
	for i, a := range args {
		step.args[i] = int16(a)
	}
	s.List = append(s.List, step)
}

// Trace is the path to a state that is wrong.
type Trace struct {
	Wrong error
	Steps []string
}

func (t *Trace) String() string {
	var b strings.Builder
	for i, s := range t.Steps {
		fmt.Fprintf(&b, "%3d. %s\n", i+1, s)
	}
	b.WriteString(t.Wrong.Error())
	return b.String()
}

// Result is what a search found.
type Result struct {
	States   int
	Complete bool   // every reachable state was visited, and none is wrong
	Trace    *Trace // a shortest path to a state that is wrong, or nil
}

// Explore visits every reachable state, up to limit (0: none), in breadth-first order: its
// trace is a shortest one.
func (m *Machine[S]) Explore(limit int) Result {
	var list []S
	known := seenBefore(&list)
	known(&m.First)
	list = append(list, m.First)
	from := []int32{-1}
	if wrong := m.Check(&m.First); wrong != nil {
		return Result{States: 1, Trace: &Trace{Wrong: wrong}}
	}
	var steps Steps[S]
	for i := 0; i < len(list); i++ {
		s := list[i]
		for _, step := range m.from(&s, &steps) {
			if m.Taken != nil {
				m.Taken[step.What] = true
			}
			if known(&step.To) {
				continue
			}
			list = append(list, step.To)
			from = append(from, int32(i))
			if wrong := m.Check(&step.To); wrong != nil {
				return Result{States: len(list), Trace: &Trace{wrong, m.path(list, from)}}
			}
		}
		if limit > 0 && len(list) > limit {
			return Result{States: len(list)}
		}
	}
	return Result{States: len(list), Complete: true}
}

// seenBefore returns a function that reports whether a state is in the list; if it is not, the
// caller must append it.
func seenBefore[S comparable](list *[]S) func(*S) bool {
	seed := maphash.MakeSeed()
	at := map[uint64]int32{} // by hash; of two with one hash, the second is at the next
	return func(s *S) bool {
		h := maphash.Comparable(seed, *s)
		for {
			i, taken := at[h]
			if !taken {
				at[h] = int32(len(*list))
				return false
			}
			if int(i) < len(*list) && (*list)[i] == *s {
				return true
			}
			h++
		}
	}
}

// from lists the steps; the slice is good until the next call.
func (m *Machine[S]) from(s *S, steps *Steps[S]) []Step[S] {
	steps.List = steps.List[:0]
	m.Next(s, steps)
	return steps.List
}

func (m *Machine[S]) path(list []S, from []int32) (path []string) {
	var steps Steps[S]
	for i := int32(len(list) - 1); from[i] >= 0; i = from[i] {
		for _, step := range m.from(&list[from[i]], &steps) {
			if step.To == list[i] {
				path = append([]string{step.String()}, path...)
				break
			}
		}
	}
	return path
}

// Walk takes one random walk of that many steps, until a state is wrong or has no next.
func (m *Machine[S]) Walk(rng *rand.Rand, length int) (taken int, t *Trace) {
	s := m.First
	var path []string
	var steps Steps[S]
	for range length {
		next := m.from(&s, &steps)
		if len(next) == 0 {
			break
		}
		step := next[rng.IntN(len(next))]
		path = append(path, step.String())
		s = step.To
		if wrong := m.Check(&s); wrong != nil {
			return len(path), &Trace{wrong, path}
		}
	}
	return len(path), nil
}
