package statedb

import (
	"bytes"
	"slices"

	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
)

// Fenced reports whether authority is moving to the target or has moved.
func Fenced(p phases.Phase) bool {
	w := phases.Route{Phase: p}.Behaviour().Writes
	return w == phases.WritesWait || w == phases.WritesTarget
}

// KeyBytes returns the keys' bytes in order, each once.
func KeyBytes(keys []record.Key) [][]byte {
	raw := make([][]byte, len(keys))
	for i, k := range keys {
		raw[i] = []byte(k)
	}
	slices.SortFunc(raw, bytes.Compare)
	return slices.CompactFunc(raw, bytes.Equal)
}
