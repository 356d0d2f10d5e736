package repair

import (
	"time"

	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// step is what remains to be done for a key after one read of both stores.
type step uint8

const (
	stepNone      step = iota // legacy lacks the record, and so does the target
	stepLeave                 // the entry was written after legacy was fenced
	stepEqual                 // legacy has the record under a key that it takes as equal
	stepForeign               // legacy lacks the record, and the target has another program's value
	stepWrite                 // write legacy's state; older than the target's then means that a later write came between
	stepExact                 // write legacy's state over an entry of the very same version
	stepLower                 // write legacy's state over an entry that is ahead of legacy, then read both again
	stepTombstone             // leave a tombstone
)

// decide is the repair rule for one key. The entry was read before the row, and
// the row under its lock; notAfter rests on the target's clock before both.
//
// A row that legacy has is written at the row's version: all earlier writers have
// committed, all later ones get a greater one. Because the entry was read first,
// its version can't be greater than the row's, unless the entry is damaged or comes
// from a timeline that legacy no longer has. Such an entry would refuse every later
// write, so its version is lowered, on condition that it is still the version read. It
// may have refused a live write just before, so the key is read again.
//
// A row that legacy lacks becomes a tombstone, not nothing: an older write that
// is still on its way must find a version that refuses it. Its version is the
// greatest that is known to be superseded, never one taken now: a row that is
// being inserted at this moment may already have an earlier one.
//
// A value that migrator did not write is replaced by a row that legacy has, and else stays:
// it is another program's, and only a person knows whether it is needed.
//
// era is the one that legacy's reads belonged to before the entry was read.
func decide(row store.Row, seen store.Entry, journaled record.Version, era uint32, notAfter time.Time) (store.Write, step) {
	if row.Found {
		era = row.Version.Era()
	}
	// [repair-era]: an entry of a later era was written in retain, or after a fence that began
	// meanwhile. Where no fence stands, legacy's era has been raised above it by now ([ahead-era]).
	if seen.Version.Era() > era {
		return store.Write{}, stepLeave
	}
	// [not-after]: a repairer that sleeps between its reads and its write must not land an old
	// state. [owned-only]: Overwrite, since legacy is the authority for a key that it has. A tombstone
	// with it is kept beside another program's value.
	w := store.Write{Key: row.Key, NotAfter: notAfter, Overwrite: true}
	if row.Found {
		// [repair-row-lock], [newer-only]: at the version of the locked row, and only if that is
		// newer.
		w.Record, w.Version = row.Record, row.Version
		order := seen.Version.Compare(row.Version)
		if order >= 0 {
			// An entry that is not older than the locked row is damage, or the row's own version:
			// it is replaced only while it is the one that was seen.
			only := seen.Version
			w.Only = &only
		}
		switch {
		case order < 0:
			return w, stepWrite
		case order == 0:
			return w, stepExact
		default:
			return w, stepLower
		}
	}
	// [repair-equal]: the record is in legacy, under another text of its key. A tombstone would take
	// it from the target.
	if row.Equal != "" {
		return store.Write{}, stepEqual
	}
	// [repair-era]: a tombstone at that version would be one of a later era.
	if journaled.Era() > era {
		return store.Write{}, stepLeave
	}
	// [repair-tombstone], [journal-version]: at the highest version that is known to be superseded.
	w.Deleted, w.Version = true, seen.Version.Max(journaled)
	// [repair-unchanged]: the tombstone has no newer version of its own, so it must overwrite;
	// without the condition it would lower a version, or remove a record, that came after the
	// read.
	only := seen.Version
	w.Only = &only
	// [repair-tombstone]: nothing to do only if the target remembers the version already, or no
	// version is known at all.
	known := w.Version == seen.Version
	switch seen.Presence {
	case store.Absent, store.Tombstone:
		if known {
			return store.Write{}, stepNone
		}
	// [owned-only]: it stays.
	case store.Unowned, store.WrongType:
		if known {
			return store.Write{}, stepForeign
		}
		return w, stepForeign
	}
	if w.Version.IsZero() {
		// Damage, without a version that can be read: any write of this era may replace it.
		w.Version = record.FirstOf(era)
	}
	return w, stepTombstone
}
