package reconcile

import (
	"strconv"
	"time"

	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// classify makes the finding of a confirmed difference, or of an entry that is ahead;
// nil when the target is right. locked was read under its lock after the snapshot,
// and is empty where legacy's rows can't be locked. lost is the journal's version of
// the key.
func (r *rules) classify(s snapshot, locked store.Row, lost record.Version) *Finding {
	f := r.difference(s)
	ahead := isAhead(locked, s.entry.Version)
	switch {
	case f == nil && ahead:
		return &Finding{Class: Ahead, Version: s.entry.Version, Detail: "the fields agree; legacy is at " + locked.Version.String()}
	case f == nil || f.Class != FieldDiff:
	case ahead:
		f.Class = Ahead
	case lost.Max(s.row.Version).Max(r.barrier).NewerThan(s.entry.Version):
		f.Class = Stale
	}
	return f
}

// isAhead reports whether an entry is newer than every committed write of its row. It
// holds only for an entry that was read before the row's lock was taken: a live
// write may have brought a newer one since.
func isAhead(locked store.Row, entry record.Version) bool {
	return locked.Found && entry.NewerThan(locked.Version)
}

// difference makes the finding of what differs, by the fields alone; nil when the
// stores agree.
func (r *rules) difference(s snapshot) *Finding {
	if r.agreed(s) {
		return nil
	}
	e := s.entry
	f := &Finding{Key: s.row.Key, Version: e.Version, Detail: e.Detail}
	switch {
	case e.Presence == store.Unowned:
		f.Class, f.Detail = ForeignClass, withoutRow(s)
	case e.Presence == store.WrongType:
		f.Class, f.Detail = Type, withoutRow(s)
	case e.Presence == store.Damaged:
		f.Class = Encoding
	case e.Presence != store.Live:
		f.Class = Missing
	case s.row.Equal != "":
		f.Class, f.Detail = EqualKey, "legacy takes it as equal to "+strconv.Quote(string(s.row.Equal))
	case !s.row.Found:
		f.Class = Extra
	default:
		r.describeFields(f, s.row.Record, e)
	}
	return f
}

// withoutRow is the entry's detail, with whether legacy lacks the record: then no repair replaces the value.
func withoutRow(s snapshot) string {
	detail := s.entry.Detail
	if s.row.Found || s.row.Equal != "" {
		return detail
	}
	if detail != "" {
		detail += "; "
	}
	return detail + "legacy has no such record"
}

func (r *rules) describeFields(f *Finding, legacy record.Record, e store.Entry) {
	diffs := r.compare.Compare(legacy, e.Record)
	if len(diffs) == 0 {
		f.Class = Expiry
		then, ok := r.expiry(legacy)
		f.Detail = "legacy " + expiryText(then, ok) + ", target " + expiryText(e.Expires, !e.Expires.IsZero())
		return
	}
	f.Class = Encoding
	for _, d := range diffs {
		if d.Class != record.DifferentUnicode {
			f.Class = FieldDiff
		}
		f.Paths = append(f.Paths, d.Path)
	}
	f.Path, f.Detail = diffs[0].Path, string(diffs[0].Class)+": "+r.compare.Detail(diffs[0], legacy, e.Record)
}

func expiryText(t time.Time, ok bool) string {
	if !ok {
		return "never expires"
	}
	return "expires " + t.UTC().Format(time.RFC3339Nano)
}
