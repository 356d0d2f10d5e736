package torture

import (
	"fmt"
	"hash/maphash"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"
)

// step is half of a write. A migration promises less than one linearizable register: a read
// from legacy may see a write that is not acknowledged yet, and a read from the target may
// not. The promise is only that no read is older than what was acknowledged. So each write is
// two steps inside its interval: after the first some reader may see it, after the last no
// reader sees anything older. A write without an acknowledgement has no last step. The strict
// check makes the two steps one: see strict.
type step string

const (
	first    step = "first"
	last     step = "last"
	readStep step = "get"
	whole    step = "whole"
)

type input struct {
	step  step
	value string // unique for each put; "" for a delete
	id    int    // of the write
}

// register is the model's state, comparable: the ids of writes. seen[0] is what the slowest
// reader may see, the last one the newest. pending are writes whose last step is still to come
// although a later write's has been.
type register struct{ seen, pending string }

func pack(ids []int) string {
	var b strings.Builder
	for _, id := range ids {
		fmt.Fprintf(&b, "%d ", id)
	}
	return b.String()
}

func unpack(s string) []int {
	var ids []int
	for f := range strings.FieldsSeq(s) {
		var id int
		_, _ = fmt.Sscan(f, &id)
		ids = append(ids, id)
	}
	return ids
}

// model checks one key.
func (p prepared) model() porcupine.Model {
	seed := maphash.MakeSeed()
	return porcupine.Model{
		Init: func() any { return register{seen: pack([]int{0})} },
		Step: func(state, in, _ any) (bool, any) { return p.advance(state.(register), in.(input)) },
		Hash: func(state any) uint64 { return maphash.Comparable(seed, state.(register)) },
		DescribeOperation: func(in, _ any) string {
			i := in.(input)
			return fmt.Sprintf("%s %q", i.step, i.value)
		},
		DescribeState: func(state any) string {
			var texts []string
			for _, id := range unpack(state.(register).seen) {
				texts = append(texts, fmt.Sprintf("%q", p.values[id]))
			}
			return strings.Join(texts, " < ")
		},
	}
}

func (p prepared) advance(r register, in input) (bool, register) {
	seen := unpack(r.seen)
	switch in.step {
	case readStep:
		return slices.ContainsFunc(seen, func(id int) bool { return p.values[id] == in.value }), r
	case whole:
		return true, register{seen: pack([]int{in.id})}
	case first:
		return true, register{seen: pack(append(seen, in.id)), pending: r.pending}
	default:
		owed := unpack(r.pending)
		if at := slices.Index(owed, in.id); at >= 0 {
			return true, register{r.seen, pack(slices.Delete(owed, at, at+1))}
		}
		at := slices.Index(seen, in.id)
		if at < 0 {
			return false, r // its first step is not made yet
		}
		for _, id := range seen[:at] { // superseded, and about to end
			if p.ends[id] {
				owed = append(owed, id)
			}
		}
		slices.Sort(owed)
		return true, register{pack(seen[at:]), pack(owed)}
	}
}

// prepared is one key's history in the checker's form.
type prepared struct {
	ops    []porcupine.Operation
	values []string // of its writes, by id; 0 is "no record", before all of them
	ends   []bool   // those that have a last step
}

const never = math.MaxInt64 / 4

// prepare drops operations without information: refused writes, reads without an answer, and
// writes of unknown outcome that no read has seen.
func prepare(ops []*operation, strict bool) prepared {
	p := prepared{values: []string{""}, ends: []bool{false}}
	seenBy := map[string]time.Duration{} // when a read of the value first ended
	for _, o := range ops {
		if at, ok := seenBy[o.Value]; o.Kind == get && o.Outcome == done && (!ok || o.Return < at) {
			seenBy[o.Value] = o.Return
		}
	}
	add := func(o *operation, in input, end int64) {
		p.ops = append(p.ops, porcupine.Operation{ClientId: o.Client, Input: in, Call: int64(o.Call), Return: end, Metadata: o.Instance})
	}
	for _, o := range ops {
		if o.Kind == get {
			if o.Outcome == done {
				add(o, input{step: readStep, value: o.Value}, int64(o.Return))
			}
			continue
		}
		value := o.Value
		if o.Kind == del {
			value = ""
		}
		in := input{step: first, value: value, id: len(p.values)}
		end := int64(never)
		switch o.Outcome {
		case refused:
			continue
		case unknown, half:
			// each value is written once: a read of it proves the write
			at, read := seenBy[value]
			if !read {
				continue
			}
			if o.Kind == put {
				end = max(int64(at), int64(o.Call))
			}
			if o.Outcome == half {
				end = min(end, int64(o.Return))
			}
		default:
			end = int64(o.Return)
		}
		p.values, p.ends = append(p.values, value), append(p.ends, o.Outcome == done && !strict)
		if strict {
			in.step = whole
			add(o, in, end)
			continue
		}
		add(o, in, end)
		if o.Outcome == done {
			in.step = last
			add(o, in, int64(o.due()))
		}
	}
	return p
}
