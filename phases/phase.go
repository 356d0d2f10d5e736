// Package phases is the vocabulary of a migration and the rules of its moves:
// phases, routes, which routes may be live side by side, legal moves, gates and
// the rollback class. It does no I/O: its callers persist and carry out what it decides.
package phases

import (
	"fmt"
	"strings"
)

// Phase is a stage of a migration.
type Phase string

// The seven phases an operator sees, in order.
const (
	Legacy      Phase = "legacy"
	ShadowWrite Phase = "shadow-write"
	DualRead    Phase = "dual-read"
	Cutover     Phase = "cutover"
	Grace       Phase = "grace"
	Retain      Phase = "retain"
	Complete    Phase = "complete"
)

// The passing phases: authority is moving from one store to the other, and writes
// wait. A migration does not rest in one.
const (
	Fenced    Phase = "fenced"    // from grace to retain: legacy refuses writes
	Lifting   Phase = "lifting"   // from fenced back to grace
	Returning Phase = "returning" // from retain back to grace: the target's writes are replayed to legacy
)

// Order lists the phases that an operator moves through.
var Order = []Phase{Legacy, ShadowWrite, DualRead, Cutover, Grace, Retain, Complete}

// ParsePhase reads a phase that an operator may name.
func ParsePhase(s string) (Phase, error) {
	for _, p := range Order {
		if string(p) == s {
			return p, nil
		}
	}
	names := make([]string, len(Order))
	for i, p := range Order {
		names[i] = string(p)
	}
	return "", fmt.Errorf("unknown phase %q: want one of %s", s, strings.Join(names, ", "))
}

// Fenced reports whether the phase rests on a fence that is up: legacy must take no writes.
// Lifting is not one: its fence may be gone already.
func (p Phase) Fenced() bool { return p == Fenced || p == Retain || p == Returning }

// Passing reports whether p is a passing phase.
func (p Phase) Passing() bool { return p == Fenced || p == Lifting || p == Returning }

// Position is p's place in Order; a passing phase has that of grace.
func (p Phase) Position() int {
	if p.Passing() {
		p = Grace
	}
	for i, q := range Order {
		if p == q {
			return i
		}
	}
	return -1
}

// Ramped reports whether the phase has a ramp of percentages.
func (p Phase) Ramped() bool { return p == DualRead || p == Cutover }
