package statedb

import (
	"bytes"
	"slices"

	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
)

// fenced tells that authority is moving or has moved.
func Fenced(p phases.Phase) bool {
	w := phases.Route{Phase: p}.Behaviour().Writes
	return w == phases.WritesWait || w == phases.WritesTarget
}

// journalling are the phases in which a lost change is journalled.
// [no-journal-fails]: none from fenced on, where repair from legacy is over.
func JournalingPhases() []string {
	var open []string
	for _, p := range phases.Order {
		if !Fenced(p) {
			open = append(open, string(p))
		}
	}
	return open
}

func KeyBytes(keys []record.Key) [][]byte {
	raw := make([][]byte, len(keys))
	for i, k := range keys {
		raw[i] = []byte(k)
	}
	slices.SortFunc(raw, bytes.Compare)
	return slices.CompactFunc(raw, bytes.Equal)
}
