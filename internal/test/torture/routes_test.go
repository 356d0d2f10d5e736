//go:build unix

package torture

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/phases"
)

// move is one change of route, with the instances that the state then counted as lapsed.
type move struct {
	from, to phases.Route
	lapsed   []string
}

// movesOf returns the history's moves by the epoch that each began.
func movesOf(history []state.Entry) (map[int64]move, error) {
	moves := map[int64]move{}
	for _, e := range history {
		if e.From.Epoch == e.To.Epoch {
			continue
		}
		var evidence struct {
			Fleet phases.Fleet `json:"fleet"`
		}
		if err := json.Unmarshal(e.Evidence, &evidence); err != nil {
			return nil, fmt.Errorf("the evidence of epoch %d: %w", e.To.Epoch, err)
		}
		moves[e.To.Epoch] = move{e.From, e.To, evidence.Fleet.Lapsed}
	}
	return moves, nil
}

// Reasons why operations on incompatible routes may be in flight together.
const (
	overtaken = "a rollback passed an instance whose lease had expired: that blocks advances, never a rollback"
	between   = "an instance without a lease, which reads legacy and writes both, beside a route that its own is compatible with"
)

// coexistence is the result of checking which routes a run's operations used together.
type coexistence struct {
	Operations int            `json:"operations"`
	Cut        int            `json:"cut_by_kill"`         // in flight when their process was killed
	Lapsed     int            `json:"without_lease"`       // began after their lease had expired
	Mixed      int            `json:"beside_other_epochs"` // began while one of another epoch was in flight
	Classes    int            `json:"most_classes"`        // at one moment, of operations that may not be incompatible
	Allowed    map[string]int `json:"allowed_apart"`       // pairs, by the reason
	Violations []string       `json:"violations"`
}

// effective returns the route that the operation behaves as.
func (s *stay) effective() phases.Route {
	if s.lapsed && s.route.Phase.Position() >= phases.ShadowWrite.Position() && s.route.Phase.Position() <= phases.Grace.Position() && !s.route.Phase.Passing() {
		return phases.Route{Phase: phases.DualRead, Percent: phases.All, Epoch: s.route.Epoch}
	}
	return s.route
}

// class returns how the operation writes: routes of one class write alike.
func (s *stay) class() phases.Writes { return s.effective().Behaviour().Writes }

// together sweeps over all instances' operations. At no moment may two operations be in flight
// whose routes are incompatible, nor operations of more than two classes.
func together(stays []*stay, moves map[int64]move) coexistence {
	c := coexistence{Allowed: map[string]int{}}
	type edge struct {
		at    time.Duration
		begin bool
		s     *stay
	}
	edges := make([]edge, 0, 2*len(stays))
	for _, s := range stays {
		edges = append(edges, edge{s.from, true, s}, edge{s.to, false, s})
	}
	slices.SortStableFunc(edges, func(a, b edge) int { return cmp.Compare(a.at, b.at) })
	underway, apart := map[*stay]bool{}, map[*stay]bool{}
	for _, e := range edges {
		if !e.begin {
			delete(underway, e.s)
			continue
		}
		c.Operations++
		c.Cut += count(e.s.cut)
		c.Lapsed += count(e.s.lapsed)
		mixed := false
		for other := range underway {
			mixed = mixed || other.route.Epoch != e.s.route.Epoch
			reason, ok := mayMeet(e.s, other, moves)
			switch {
			case !ok:
				c.Violations = append(c.Violations, fmt.Sprintf("at %.4fs %s together with %s: %s", e.at.Seconds(), e.s, other, reason))
			case reason != "":
				c.Allowed[reason]++
				older := e.s
				if other.route.Epoch < e.s.route.Epoch {
					older = other
				}
				apart[older] = true
			}
		}
		c.Mixed += count(mixed)
		underway[e.s] = true
		classes := map[phases.Writes]bool{}
		for s := range underway {
			if !apart[s] {
				classes[s.class()] = true
			}
		}
		if c.Classes = max(c.Classes, len(classes)); len(classes) > 2 {
			c.Violations = append(c.Violations, fmt.Sprintf("at %.4fs operations of %d classes are in flight, the newest %s", e.at.Seconds(), len(classes), e.s))
		}
	}
	return c
}

// mayMeet reports whether the two may be in flight together, and the reason if their routes
// are incompatible.
func mayMeet(a, b *stay, moves map[int64]move) (reason string, ok bool) {
	if phases.Compatible(a.effective(), b.effective()) {
		return "", true
	}
	if phases.Compatible(a.route, b.route) {
		return between, true
	}
	if a.route.Epoch > b.route.Epoch {
		a, b = b, a
	}
	for epoch := a.route.Epoch + 1; epoch <= b.route.Epoch; epoch++ {
		m, known := moves[epoch]
		switch {
		case !known:
			return fmt.Sprintf("nothing in the history leads to epoch %d", epoch), false
		case phases.Compatible(a.effective(), m.to) || phases.Compatible(a.route, m.to):
			continue
		case phases.Forward(m.from, m.to):
			return fmt.Sprintf("the migration advanced to %s@%d beside it", m.to, epoch), false
		case !slices.Contains(m.lapsed, a.instance):
			return fmt.Sprintf("it was rolled back to %s@%d while the state counted the lease of %s as live", m.to, epoch, a.instance), false
		default:
			return overtaken, true
		}
	}
	return "no move leads from one to the other", false
}

func (s *stay) String() string {
	text := "a read"
	if s.write {
		text = "a write"
	}
	text += fmt.Sprintf(" of %s on %s@%d", s.instance, s.route, s.route.Epoch)
	if s.lapsed {
		text += " without a lease"
	}
	return text + fmt.Sprintf(" (from %.4fs to %.4fs)", s.from.Seconds(), s.to.Seconds())
}

func count(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (c *coexistence) add(d coexistence) {
	c.Operations += d.Operations
	c.Cut += d.Cut
	c.Lapsed += d.Lapsed
	c.Mixed += d.Mixed
	c.Classes = max(c.Classes, d.Classes)
	for reason, n := range d.Allowed {
		if c.Allowed == nil {
			c.Allowed = map[string]int{}
		}
		c.Allowed[reason] += n
	}
	c.Violations = append(c.Violations, d.Violations...)
}
