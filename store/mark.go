package store

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/stranglerfig/migrator/internal/hint"
)

// Mark is what a target holds besides records, so that another server, an emptied one and one
// that went back to an earlier state are noticed although they answer.
type Mark struct {
	Owner       string // whose the target's keys are: the migration's name, "@", the id of its state database
	Incarnation string // random: of the claim that placed the mark
	Beat        int64  // the last number that every part of the target had; 0: none yet
}

// Marker is a Target that holds marks: one for each of its parts that can be lost alone, such as
// the masters of a cluster.
//
// Without it: a target that lost data is noticed by its records alone, when they are read or
// compared; a second migration may write the same keys.
type Marker interface {
	// Claim places the mark in every part, in the place of the owner's former ones. ErrOwned if
	// the target's keys, or some of them, are another owner's, unless takeOver.
	Claim(ctx context.Context, m Mark, takeOver bool) error
	// Owners returns the owners, but for the given one, whose keys or table the migration's may be.
	Owners(ctx context.Context, owner string) ([]string, error)
	// CheckMark returns ErrMarkLost unless every part has the mark, with a number not below
	// m.Beat.
	CheckMark(ctx context.Context, m Mark) error
	// Beat is CheckMark, and sets the number in every part to next, which is above m.Beat.
	// *BeatAheadError if a part has that number already, or a later one.
	Beat(ctx context.Context, m Mark, next int64) error
}

// Errors of a Marker. What wraps them names the server that answered, and what was expected.
var (
	ErrMarkLost = errors.New("the target is not the one that the migration has written, or has lost data")
	ErrOwned    = errors.New("the target's keys belong to another migration")
)

// MarkHint is the remedy for a target that lacks a migration's mark; lost says why. No claim takes
// another migration's keys.
func MarkHint(migration, lost string) hint.Hint {
	if strings.Contains(lost, ErrOwned.Error()) {
		return hint.Hint{Do: hint.TakeOver, Text: "if that migration is over; else correct target.url, or give this migration another name and other keys"}
	}
	return hint.Hint{Do: hint.Claim, Of: []string{migration}, Text: "if target.url names the right server, and its data can't be restored"}
}

// BeatAheadError reports a beat that the caller has not given out: another leader has, or the
// caller's state has lost transactions.
type BeatAheadError struct{ Beat int64 }

func (e *BeatAheadError) Error() string {
	return fmt.Sprintf("the target is at beat %d already", e.Beat)
}
