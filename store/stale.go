package store

import (
	"context"

	"github.com/stranglerfig/migrator/record"
)

// LeftBehind tells whether the target has something under the entry's key that is
// older than a version, or has none: what a copy at that version has not reached.
// A stray has no key that a repair could be given.
func (e Entry) LeftBehind(than record.Version) bool {
	switch e.Presence {
	case Live, Unowned, Damaged:
		// [backfill-sweep]: also what has no version; legacy is the authority for every key.
		return (e.Key != "" || e.RawKey == "") && than.NewerThan(e.Version)
	default:
		return false
	}
}

// OlderLister is a Target that finds what is old without reading the rest.
type OlderLister interface {
	// ListOlder yields the keys of all entries that are LeftBehind, each at least
	// once; of what changes meanwhile it may say either. yield is called by one
	// goroutine at a time, and may use the target.
	ListOlder(ctx context.Context, than record.Version, yield func([]record.Key) error) error
}
