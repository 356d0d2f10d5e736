package reconcile

import (
	"encoding/binary"
	"hash/maphash"
	"strconv"
	"strings"
	"time"

	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// judge compares one key's row with its entry.
type judge struct {
	compare *record.Comparer
	expires int // the field past which a record does not exist; -1: none
	seed    maphash.Seed
}

// expirySlack is what stores may round an expiry by: Redis keeps milliseconds.
const expirySlack = 2 * time.Millisecond

// same tells that the stores agree about the key. now is the target's clock: a
// record that has expired is not there, whether legacy has deleted it yet or not.
func (j *judge) same(row store.Row, e store.Entry, now time.Time) bool {
	switch e.Presence {
	case store.Absent, store.Tombstone:
		return !row.Found || j.expired(row.Record, now)
	case store.Live:
		return row.Found && j.compare.Equal(row.Record, e.Record) && j.sameExpiry(row.Record, e)
	default:
		return false
	}
}

// describe makes the finding of a confirmed difference; nil when there is none.
func (j *judge) describe(row store.Row, e store.Entry, now time.Time) *Finding {
	if j.same(row, e, now) {
		return nil
	}
	f := &Finding{Key: row.Key, Version: e.Version, Detail: e.Detail}
	switch {
	case e.Presence == store.Unowned:
		f.Class = ForeignClass
	case e.Presence == store.WrongType:
		f.Class = Type
	case e.Presence == store.Damaged:
		f.Class = Encoding
	case e.Presence != store.Live:
		f.Class = Missing
	case !row.Found:
		f.Class = Extra
	default:
		j.describeFields(f, row.Record, e)
	}
	return f
}

func (j *judge) describeFields(f *Finding, legacy record.Record, e store.Entry) {
	diffs := j.compare.Compare(legacy, e.Record)
	if len(diffs) == 0 {
		f.Class = Expiry
		then, ok := j.expiry(legacy)
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
	f.Path, f.Detail = diffs[0].Path, string(diffs[0].Class)+": "+j.compare.Detail(diffs[0], legacy, e.Record)
}

func expiryText(t time.Time, ok bool) string {
	if !ok {
		return "never expires"
	}
	return "expires " + t.UTC().Format(time.RFC3339Nano)
}

func (j *judge) expired(r record.Record, now time.Time) bool {
	then, ok := j.expiry(r)
	return ok && !then.After(now)
}

func (j *judge) sameExpiry(r record.Record, e store.Entry) bool {
	if j.expires < 0 {
		return true
	}
	then, ok := j.expiry(r)
	if ok != !e.Expires.IsZero() {
		return false
	}
	return !ok || then.Sub(e.Expires).Abs() < expirySlack
}

// expiry reads when the record expires; false: never.
func (j *judge) expiry(r record.Record) (time.Time, bool) {
	if j.expires < 0 || r[j.expires].State != record.Present {
		return time.Time{}, false
	}
	text := r[j.expires].Text
	switch {
	case text == "infinity":
		return time.Time{}, false
	case text == "-infinity" || strings.HasSuffix(text, "BC"):
		return time.Unix(0, 0), true
	}
	// Years may have more than the four digits that time.Parse reads: parse in a
	// leap year, then move to the record's own.
	year, rest, _ := strings.Cut(text, "-")
	n, err := strconv.Atoi(year)
	if err != nil {
		return time.Time{}, false
	}
	for _, layout := range []string{"01-02T15:04:05.999999999Z", "01-02T15:04:05.999999999", "01-02"} {
		if t, err := time.Parse("2006-"+layout, "2000-"+rest); err == nil {
			return time.Date(n, t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), time.UTC), true
		}
	}
	return time.Time{}, false
}

// print tells whether an entry has changed between two looks.
func (j *judge) print(e store.Entry) uint64 {
	var h maphash.Hash
	h.SetSeed(j.seed)
	part := func(s string) {
		var size [8]byte
		binary.LittleEndian.PutUint64(size[:], uint64(len(s)))
		_, _ = h.Write(size[:])
		_, _ = h.WriteString(s)
	}
	part(string(e.Presence))
	part(e.Version.String())
	part(e.Detail)
	if !e.Expires.IsZero() {
		part(e.Expires.UTC().Format(time.RFC3339Nano))
	}
	for _, v := range e.Record {
		_ = h.WriteByte(byte(v.State))
		part(v.Text)
	}
	return h.Sum64()
}
