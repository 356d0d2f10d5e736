package reconcile

import (
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"strconv"
	"strings"
	"time"

	"github.com/stranglerfig/migrator/record"
	"github.com/stranglerfig/migrator/store"
)

// rules say when a row of legacy and an entry of the target agree.
type rules struct {
	compare *record.Comparer
	expires int            // the field past which a record does not exist; -1: none
	barrier record.Version // see Options.Barrier
	seed    maphash.Seed   // of fingerprints
}

func newRules(rc *Reconciler) (*rules, error) {
	r := &rules{compare: rc.Compare, expires: -1, barrier: rc.Barrier, seed: maphash.MakeSeed()}
	if rc.Expires != "" {
		if r.expires = rc.Legacy.Schema().Index(rc.Expires); r.expires < 0 {
			return nil, fmt.Errorf("the migration does not copy the field %q, which holds the records' expiry", rc.Expires)
		}
	}
	return r, nil
}

// expirySlack is what stores may round an expiry by: Redis keeps milliseconds.
const expirySlack = 2 * time.Millisecond

// agree reports whether both stores hold the same record. now is the target's clock: an
// expired record counts as absent, even if legacy has not deleted it yet.
func (r *rules) agree(row store.Row, e store.Entry, now time.Time) bool {
	switch e.Presence {
	case store.Absent, store.Tombstone:
		return !row.Found || r.expired(row.Record, now)
	case store.Live:
		return row.Found && r.compare.Equal(row.Record, e.Record) && r.sameExpiry(row.Record, e)
	default:
		return false
	}
}

func (r *rules) expired(of record.Record, now time.Time) bool {
	then, ok := r.expiry(of)
	return ok && !then.After(now)
}

func (r *rules) sameExpiry(of record.Record, e store.Entry) bool {
	if r.expires < 0 {
		return true
	}
	then, ok := r.expiry(of)
	if ok != !e.Expires.IsZero() {
		return false
	}
	return !ok || then.Sub(e.Expires).Abs() < expirySlack
}

// expiry reads when the record expires; false: never.
func (r *rules) expiry(of record.Record) (time.Time, bool) {
	if r.expires < 0 {
		return time.Time{}, false
	}
	return ExpiryOf(of[r.expires])
}

// ExpiryOf reads when a record expires that has the value in its expiry's field; false: never.
func ExpiryOf(v record.Value) (time.Time, bool) {
	if v.State != record.Present {
		return time.Time{}, false
	}
	text := v.Text
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

// agreed reports whether both stores held the same record.
func (r *rules) agreed(s snapshot) bool { return r.agree(s.row, s.entry, s.now) }

// fingerprint is the same for two reads of an entry that has not changed between them.
func (r *rules) fingerprint(e store.Entry) uint64 {
	var h maphash.Hash
	h.SetSeed(r.seed)
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
